# What a release does: captured data, and how new instances take over.

variable "data_capture" {
  description = "Copy a share of requests and answers to S3. Switch enabled off while a load test runs."
  type = object({
    destination_s3_uri  = string
    sampling_percentage = number
    enabled             = optional(bool, true)
    capture_modes       = optional(list(string), ["Input", "Output"])
    kms_key_id          = optional(string)
    csv_content_types   = optional(list(string))
    json_content_types  = optional(list(string))
  })
  default = null

  validation {
    condition     = try(var.data_capture.sampling_percentage >= 0 && var.data_capture.sampling_percentage <= 100 && floor(var.data_capture.sampling_percentage) == var.data_capture.sampling_percentage, var.data_capture == null)
    error_message = "data_capture.sampling_percentage must be a whole number from 0 to 100."
  }

  validation {
    condition     = var.data_capture == null || can(regex("^s3://[^/[:space:]]+", var.data_capture.destination_s3_uri))
    error_message = "data_capture.destination_s3_uri must be an s3:// URI."
  }

  validation {
    condition     = try(length(var.data_capture.capture_modes) >= 1 && alltrue([for mode in var.data_capture.capture_modes : contains(["Input", "Output", "InputAndOutput"], mode)]), var.data_capture == null)
    error_message = "data_capture.capture_modes lists Input, Output or InputAndOutput."
  }
}

variable "deployment" {
  description = "Blue/green deployment of a new configuration; null switches all traffic at once. Sizes are whole numbers of size_type."
  type = object({
    strategy                             = string
    size                                 = optional(number)
    size_type                            = optional(string, "CAPACITY_PERCENT")
    wait_interval_in_seconds             = optional(number, 600)
    termination_wait_in_seconds          = optional(number, 0)
    maximum_execution_timeout_in_seconds = optional(number)
    rollback_alarm_names                 = optional(list(string), [])
  })
  default = null

  validation {
    condition     = var.deployment == null || contains(["ALL_AT_ONCE", "CANARY", "LINEAR"], try(var.deployment.strategy, "-"))
    error_message = "deployment.strategy must be ALL_AT_ONCE, CANARY or LINEAR."
  }

  validation {
    condition     = var.deployment == null || contains(["INSTANCE_COUNT", "CAPACITY_PERCENT"], try(var.deployment.size_type, "-"))
    error_message = "deployment.size_type must be INSTANCE_COUNT or CAPACITY_PERCENT."
  }

  validation {
    condition     = try(var.deployment.strategy == "ALL_AT_ONCE" ? var.deployment.size == null : var.deployment.size >= 1 && floor(var.deployment.size) == var.deployment.size, var.deployment == null)
    error_message = "deployment.size is a whole number of at least 1 for CANARY and LINEAR, and absent for ALL_AT_ONCE."
  }

  validation {
    condition = try(
      var.deployment.strategy == "ALL_AT_ONCE" || var.deployment.size_type == "INSTANCE_COUNT" ? true
      : var.deployment.size <= 50 && var.deployment.size >= (var.deployment.strategy == "LINEAR" ? 10 : 1),
      var.deployment == null
    )
    error_message = "A canary takes at most 50 percent of capacity, a linear step 10 to 50 percent."
  }

  validation {
    condition     = try(var.deployment.wait_interval_in_seconds >= 0 && var.deployment.wait_interval_in_seconds <= 3600 && var.deployment.termination_wait_in_seconds >= 0 && var.deployment.termination_wait_in_seconds <= 3600, var.deployment == null)
    error_message = "deployment waits must be 0 to 3600 seconds."
  }

  validation {
    condition     = try(var.deployment.maximum_execution_timeout_in_seconds == null ? true : var.deployment.maximum_execution_timeout_in_seconds >= 600 && var.deployment.maximum_execution_timeout_in_seconds <= 28800, var.deployment == null)
    error_message = "deployment.maximum_execution_timeout_in_seconds must be 600 to 28800."
  }

  validation {
    condition     = try(length(var.deployment.rollback_alarm_names) <= 10, var.deployment == null)
    error_message = "deployment.rollback_alarm_names takes at most 10 alarms."
  }
}

variable "deployment_alarms" {
  description = "Alarms on the new fleet alone that roll a deployment back. ModelLatency is in microseconds, error metrics are shares."
  type = list(object({
    name                = string
    metric_name         = string
    statistic           = optional(string, "Average")
    threshold           = number
    period              = optional(number, 60)
    evaluation_periods  = optional(number, 3)
    datapoints_to_alarm = optional(number)
  }))
  default  = []
  nullable = false

  validation {
    condition     = length(var.deployment_alarms) == 0 || var.deployment != null
    error_message = "deployment_alarms belong to a deployment."
  }

  validation {
    condition     = length(var.deployment_alarms) + try(length(var.deployment.rollback_alarm_names), 0) <= 10
    error_message = "AWS takes at most 10 rollback alarms, deployment.rollback_alarm_names included."
  }

  validation {
    condition     = length(distinct([for alarm in var.deployment_alarms : alarm.name])) == length(var.deployment_alarms) && alltrue([for alarm in var.deployment_alarms : can(regex("^[a-zA-Z0-9][a-zA-Z0-9-]{0,62}$", alarm.name))])
    error_message = "deployment_alarms need different names of letters, digits and hyphens."
  }

  validation {
    condition     = alltrue([for alarm in var.deployment_alarms : contains(["ModelLatency", "OverheadLatency", "Invocation4XXErrors", "Invocation5XXErrors", "InvocationModelErrors"], alarm.metric_name)])
    error_message = "deployment_alarms watch ModelLatency, OverheadLatency, Invocation4XXErrors, Invocation5XXErrors or InvocationModelErrors."
  }

  validation {
    condition     = alltrue([for alarm in var.deployment_alarms : can(regex("^(Average|Sum|Minimum|Maximum|SampleCount|p[0-9]{1,2}([.][0-9]+)?)$", alarm.statistic))])
    error_message = "deployment_alarms.statistic is Average, Sum, Minimum, Maximum, SampleCount or a percentile such as p99."
  }

  validation {
    condition     = alltrue([for alarm in var.deployment_alarms : alarm.threshold > 0])
    error_message = "deployment_alarms.threshold must be positive."
  }

  validation {
    condition     = alltrue([for alarm in var.deployment_alarms : try(alarm.period % 60 == 0 && alarm.period >= 60 && alarm.evaluation_periods >= 1 && floor(alarm.evaluation_periods) == alarm.evaluation_periods && alarm.period * alarm.evaluation_periods <= 86400, false)])
    error_message = "deployment_alarms.period is a multiple of 60 seconds; all evaluation_periods together last at most a day."
  }

  validation {
    condition     = alltrue([for alarm in var.deployment_alarms : alarm.datapoints_to_alarm == null ? true : alarm.datapoints_to_alarm >= 1 && alarm.datapoints_to_alarm <= alarm.evaluation_periods])
    error_message = "deployment_alarms.datapoints_to_alarm must be 1 to evaluation_periods."
  }
}
