locals {
  model = {
    image       = var.image_uri
    data        = var.model_data_s3
    environment = var.env
    mode        = var.multi_model ? "MultiModel" : "SingleModel"
    role        = var.sm_role_arn
  }

  # Replacing the configuration before destroying the old one makes Terraform treat the model
  # the same way, so a changed model needs a name of its own.
  model_name = "${substr(var.name, 0, 52)}-${substr(sha256(jsonencode(local.model)), 0, 10)}"

  # Everything but the instance count that makes a new endpoint configuration.
  release = sha256(jsonencode([local.model_name, var.variant_name, var.instance_type, var.routing_strategy, var.data_capture]))

  autoscaled = var.min_capacity != null && var.max_capacity != null

  rollback_alarm_names = concat(
    try(var.deployment.rollback_alarm_names, []),
    [for alarm in var.deployment_alarms : aws_cloudwatch_metric_alarm.deployment[alarm.name].alarm_name]
  )

  # A change of the initial count replaces the configuration and resets the live count. A fixed
  # fleet wants that; under autoscaling a new minimum must reach the scalable target alone.
  initial_instance_count = local.autoscaled ? terraform_data.first_count[local.release].input : var.instance_count
}

# Remembers the count that autoscaling or the current release began with; the next release takes
# the variable anew.
resource "terraform_data" "first_count" {
  for_each = local.autoscaled ? toset([local.release]) : toset([])
  input    = var.instance_count

  lifecycle {
    ignore_changes = [input]
  }
}

resource "aws_sagemaker_model" "this" {
  name               = local.model_name
  execution_role_arn = var.sm_role_arn
  tags               = var.tags

  primary_container {
    image          = local.model.image
    model_data_url = local.model.data
    environment    = local.model.environment
    mode           = local.model.mode
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_sagemaker_endpoint_configuration" "this" {
  # Under an unchanged name the endpoint would see no difference and keep the old configuration.
  name_prefix = "${substr(var.name, 0, 36)}-"
  tags        = var.tags

  production_variants {
    variant_name           = var.variant_name
    model_name             = aws_sagemaker_model.this.name
    instance_type          = var.instance_type
    initial_instance_count = local.initial_instance_count
    initial_variant_weight = 1

    dynamic "routing_config" {
      for_each = var.routing_strategy == null ? [] : [var.routing_strategy]

      content {
        routing_strategy = routing_config.value
      }
    }
  }

  dynamic "data_capture_config" {
    for_each = var.data_capture == null ? [] : [var.data_capture]

    content {
      enable_capture              = data_capture_config.value.enabled
      initial_sampling_percentage = data_capture_config.value.sampling_percentage
      destination_s3_uri          = data_capture_config.value.destination_s3_uri
      kms_key_id                  = data_capture_config.value.kms_key_id

      dynamic "capture_options" {
        for_each = data_capture_config.value.capture_modes

        content {
          capture_mode = capture_options.value
        }
      }

      dynamic "capture_content_type_header" {
        for_each = data_capture_config.value.csv_content_types == null && data_capture_config.value.json_content_types == null ? [] : [data_capture_config.value]

        content {
          csv_content_types  = capture_content_type_header.value.csv_content_types
          json_content_types = capture_content_type_header.value.json_content_types
        }
      }
    }
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_sagemaker_endpoint" "this" {
  name                 = var.name
  endpoint_config_name = aws_sagemaker_endpoint_configuration.this.name
  tags                 = var.tags

  dynamic "deployment_config" {
    for_each = var.deployment == null ? [] : [var.deployment]

    content {
      blue_green_update_policy {
        termination_wait_in_seconds          = deployment_config.value.termination_wait_in_seconds
        maximum_execution_timeout_in_seconds = deployment_config.value.maximum_execution_timeout_in_seconds

        traffic_routing_configuration {
          type                     = deployment_config.value.strategy
          wait_interval_in_seconds = deployment_config.value.wait_interval_in_seconds

          dynamic "canary_size" {
            for_each = deployment_config.value.strategy == "CANARY" ? [deployment_config.value] : []

            content {
              type  = canary_size.value.size_type
              value = canary_size.value.size
            }
          }

          dynamic "linear_step_size" {
            for_each = deployment_config.value.strategy == "LINEAR" ? [deployment_config.value] : []

            content {
              type  = linear_step_size.value.size_type
              value = linear_step_size.value.size
            }
          }
        }
      }

      dynamic "auto_rollback_configuration" {
        for_each = length(local.rollback_alarm_names) == 0 ? [] : [local.rollback_alarm_names]

        content {
          dynamic "alarms" {
            for_each = auto_rollback_configuration.value

            content {
              alarm_name = alarms.value
            }
          }
        }
      }
    }
  }
}
