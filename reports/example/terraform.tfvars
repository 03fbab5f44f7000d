# Written by tuner 0.1.0 on 2026-11-23 from run "example".
# SLO: p99 <= 120 ms, errors <= 0.1 %
# Capacity per instance at 1 instance: 169.8 requests/s (95% interval 165 to 174.7; 5544 requests, verified).
# Expected on "sample day, seed 7": 99.9982 % of requests inside the SLO (99.9974 % to 99.9987 %).
# target_value is 6270.39 before rounding down; the metric is SageMakerVariantInvocationsPerInstance.
# instance_count is what a new endpoint or a new release starts with; for an endpoint that runs already, put its present count there.

# Not known to tuner, still to be set: name, sm_role_arn, image_uri, model_data_s3.

instance_type          = "ml.m5.xlarge"
instance_count         = 3
min_capacity           = 3
max_capacity           = 20
target_value           = 6270
scale_in_cooldown      = 300
scale_out_cooldown     = 0
predefined_metric_type = "SageMakerVariantInvocationsPerInstance"
