"""What ``tuner init --full`` adds: one commented table for each further knob."""

from __future__ import annotations

SIGNALS = """\
# [signals]                  # scaling metrics to compare, read from CloudWatch during the stages
# metrics = ["invocations", "concurrency", "cpu"]   # also "gpu", "gpu_memory", "memory"
# vcpus = 4                  # of an instance: shows a CPU target as a share of the machine
# # gpus = 1                 # the same for GPUs
# # minute_s = 2             # of an emulator that tuner starts (AWS: 60); needs launch_lag_s
"""

TYPES = """\
# [[types]]                  # further instance types: a campaign on each, the cheapest is taken
# instance_type = "ml.c5.xlarge"
# preset = "demo"            # emulator: preset, spec, or endpoint_url and name
# # name = "my-endpoint-c5"  # sagemaker: its endpoint, or variant; http: url
# price_per_hour_usd = 0.204 # default: tuner-prices.json, then the packaged table
# # vcpus = 4                # with [signals]: of an instance of this type, as there; also gpus
"""

CANARY = """\
# [canary]                     # tuner canary: is a new variant slower than the one above?
# variant = "Candidate"        # of the same endpoint; default: the only other one
# endpoint = "my-endpoint-new" # or another endpoint
# url = "http://127.0.0.1:8081/invocations"  # kind = "http": where the candidate answers
# rate_per_s = 60              # on either variant; default: load.start_rate_per_s
# slower_by = 0.05             # the slow-down that counts, as a share of latency
# alpha = 0.05                 # false alarms, however often one looks
# max_minutes = 120            # then an open question stays open
# size_percent = 10            # of the deployment's canary; default: the smallest that shows it
# traffic_per_s = 200          # of the endpoint while a release is let in; default: rate_per_s
"""

DATA_CAPTURE = """\
# [data_capture]             # what recording requests costs: tuner capture PLAN --run RUN
# destination = "s3://my-bucket/captured"
# sampling_percent = [5, 20, 100]
# budget_usd_per_month = 50
# p99_allowance = 0.05       # p99 may rise by this share
# retention_days = 30        # a lifecycle rule deletes older records
# endpoint = "my-endpoint-capture"   # sagemaker: the same model with capture on, to compare with
# rate_per_s = 100           # load on either endpoint; default: the run's target
# minutes = 5                # for each percentage
# response_bytes = 2000      # default: as measured
# base64 = true              # false where the configuration names the content type as CSV or JSON
"""

MODELS = """\
# [models]                   # a multi-model endpoint: how many models can an instance hold?
# count = 200                # models of the endpoint
# name = "model-{n}.tar.gz"  # what TargetModel says; {n} is 1, 2, 3 ...
# popularity = "zipf"        # zipf | uniform
# exponent = 1.0             # of zipf: the n-th model has a share in proportion to 1 / n^exponent
# # trace = "models.csv"     # instead of count: one request per line, its model first
# sweep = [10, 20, 40]       # models to try on one instance; default: search for the limit
# rate_per_s = 50            # load of that instance; default: load_share of its capacity
# load_share = 0.7
"""

SCHEDULE = """\
# [schedule]                 # scheduled actions, written when they are cheaper or safer
# timezone = "Europe/Berlin" # the clock that the traffic was recorded by
# max_actions = 8
# non_production = true      # one instance in off-hours, whatever the traffic
# off_hours = "20:00-07:00"  # default: found in the traffic
# off_weekends = true
"""

TABLES: tuple[str, ...] = (
    SIGNALS,
    MODELS,
    DATA_CAPTURE,
    SCHEDULE,
    CANARY,
    TYPES,
)
"""In the order of the file."""
