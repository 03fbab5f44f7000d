"""What ``tuner init --full`` adds: one commented table for each further knob."""

from __future__ import annotations

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

SCHEDULE = """\
# [schedule]                 # scheduled actions, written when they are cheaper or safer
# timezone = "Europe/Berlin" # the clock that the traffic was recorded by
# max_actions = 8
# non_production = true      # one instance in off-hours, whatever the traffic
# off_hours = "20:00-07:00"  # default: found in the traffic
# off_weekends = true
"""

TABLES: tuple[str, ...] = (
    DATA_CAPTURE,
    SCHEDULE,
    CANARY,
)
"""In the order of the file."""
