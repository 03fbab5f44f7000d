"""The commented ``tuner.toml`` that ``tuner init`` writes. It is a valid plan as it stands."""

from __future__ import annotations

from tuner.plan.template_knobs import TABLES

TEMPLATE = """\
# A plan for tuner. Check it with `tuner check tuner.toml`, see what a campaign would take
# with `tuner rehearse tuner.toml`, measure with `tuner run tuner.toml`.
# Everything that is commented out shows its default or an example.

[endpoint]
kind = "emulator"            # sagemaker | emulator | http
preset = "demo"              # emulator: a built-in server model (tuner emulate --list)
# spec = "fleet.toml"        # emulator: or your own (tuner emulate --example)
# name = "my-endpoint"       # sagemaker: the endpoint to measure
# variant = "AllTraffic"     # sagemaker: needed when there is more than one
# region = "us-east-1"       # sagemaker: else from the AWS configuration
# profile = "staging"        # sagemaker: an AWS profile
# endpoint_url = "http://127.0.0.1:8000"   # sagemaker: an emulator or a proxy
# minute_seconds = 3         # emulator: seconds of its control minute (AWS: 60)
# url = "http://127.0.0.1:8080/invocations"  # http: where to POST
# instance_count = 1         # http: how many instances stand behind the url
# routing = "RANDOM"         # http: RANDOM | LEAST_OUTSTANDING_REQUESTS

[slo]
p99_ms = 150                 # any of p50_ms p90_ms p95_ms p99_ms p99_9_ms;
                             # of streamed answers ttft_p95_ms, chunk_gap_p95_ms (longest gap) ...
max_error_rate = 0.001       # share of requests that may fail
# budget_requests = 0.01     # share of requests over the SLO that traffic may cause in the
                             # long run; default: what the tightest objective allows
budget_minutes = 0.005       # share of minutes that may break the SLO

[load]
body = '{"instances": [[0.1, 0.2, 0.3]]}'
# payloads = [               # instead of body: files, globs or JSON lines, with a mix
#   { file = "payloads/light-*.json", class = "light", weight = 9 },
#   { file = "payloads/heavy.jsonl", class = "heavy", weight = 1 },
#   { file = "capture/**/*.jsonl", kind = "data-capture" },   # replay captured requests
# ]                          # kind: auto | file | jsonl (a body a line) | data-capture
# content_type = "application/json"  # default; of payload files: what their names say
arrivals = "poisson"         # poisson | constant
instance_counts = [1, 2]     # one count in detail, the others to verify the prediction
rates = "auto"               # or requests per second per instance: [40, 80, 120]
# start_rate_per_s = 5       # auto: where the ramp begins, for the whole endpoint
step_s = 120                 # length of a measured stage
warm_up_s = 120              # once, after the endpoint was started or scaled
settle_s = 15                # load before each stage that is not measured
# timeout_s = 5              # client timeout, at least four times the slowest objective
# max_send_lag_ms = 2        # a stage is void when its p99 send lag is above this;
                             # default: 1 % of the slowest objective, at least 2 ms
# workers = 1                # generator processes on this machine; 0 with --listen: others only
# client = "boto3"           # default: fast; boto3 is slow, for a cross-check
# max_minutes = 120          # the campaign stops cleanly at each of these limits
# max_requests = 20000000
# max_cost_usd = 20
# max_error_share = 0.5      # stop when this share of a stage fails
# precision = 0.05           # stop when the capacity is known to this
# seed = 1

[traffic]                    # what production will ask for, per minute
# csv = "traffic.csv"        # columns: minute or time, requests
peak_per_min = 30000         # or a shape with a peak
shape = "diurnal"            # diurnal | weekly | flash_crowd | ramp | launch_step
# days = 14
# growth = 1.3               # multiply the traffic

[capacity]
instance_type = "ml.m5.xlarge"
# price_per_hour_usd = 0.23  # default: the packaged price table
lose = "1 instance"          # none | 1 instance | 1 zone of 3
zones = 3
min_capacity = 1             # bounds of the search
max_capacity = 50
# launch_lag_s = 300         # default: as measured in the campaign
# quota = 20                 # instances the account may run; checked against the maximum
# today_target_per_min = 1000   # the policy in use today, for comparison
# today_min_capacity = 2
# today_max_capacity = 10

[terraform]                  # passed through to terraform.tfvars
# name = "my-endpoint"
# sm_role_arn = "arn:aws:iam::123456789012:role/sagemaker"
# image_uri = "123456789012.dkr.ecr.us-east-1.amazonaws.com/my-model:1"
# model_data_s3 = "s3://my-bucket/model.tar.gz"
"""

FULL = "\n".join((TEMPLATE, *TABLES))
"""With the tables of every knob, all commented out: the same plan."""
