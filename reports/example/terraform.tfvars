# Written by tuner 0.1.0 on 2026-11-22 from run "example".
# SLO: p99 <= 120 ms, errors <= 0.1 %
# Capacity per instance at 1 instance: 169.9 requests/s (95% interval 164.1 to 175.6; 5551 requests, verified).
# Expected on "sample day, seed 7": 99.9982 % of requests inside the SLO (99.9972 % to 99.9987 %).
# target_value is 6238.76 before rounding down; the metric is SageMakerVariantInvocationsPerInstance.
# instance_count is what a new endpoint or a new release starts with; for an endpoint that runs already, put its present count there.

# Not known to tuner, still to be set: name, sm_role_arn, image_uri, model_data_s3.

instance_type          = "ml.m5.xlarge"
instance_count         = 3
min_capacity           = 3
max_capacity           = 16
target_value           = 6238
scale_in_cooldown      = 300
scale_out_cooldown     = 0
predefined_metric_type = "SageMakerVariantInvocationsPerInstance"
