# Autoscaling is on when min_capacity and max_capacity are given; target_value adds the policy.

variable "min_capacity" {
  description = "Smallest number of instances Application Auto Scaling may leave."
  type        = number
  default     = null

  validation {
    condition     = var.min_capacity == null ? true : var.min_capacity >= 1 && floor(var.min_capacity) == var.min_capacity
    error_message = "min_capacity must be a whole number of at least 1 (a real-time variant cannot scale to zero)."
  }
}

variable "max_capacity" {
  description = "Largest number of instances Application Auto Scaling may reach."
  type        = number
  default     = null

  validation {
    condition     = var.max_capacity == null ? true : var.max_capacity >= 1 && floor(var.max_capacity) == var.max_capacity
    error_message = "max_capacity must be a whole number of at least 1."
  }

  validation {
    condition     = (var.min_capacity == null) == (var.max_capacity == null)
    error_message = "min_capacity and max_capacity must be given together."
  }

  validation {
    condition     = try(var.min_capacity <= var.max_capacity, true)
    error_message = "max_capacity must not be smaller than min_capacity."
  }
}

variable "target_value" {
  description = "Target of the tracking policy in the metric's own unit: requests per minute per instance, concurrent requests per instance, or percent of one vCPU summed over vCPUs."
  type        = number
  default     = null

  validation {
    condition     = var.target_value == null ? true : var.target_value > 0
    error_message = "target_value must be positive."
  }

  validation {
    condition     = var.target_value == null || var.max_capacity != null
    error_message = "target_value needs min_capacity and max_capacity."
  }
}

# The provider sends an omitted cooldown as 0, not as AWS's 300: both always have a value.

variable "scale_in_cooldown" {
  description = "Seconds after a scale-in before the next one."
  type        = number
  default     = 300
  nullable    = false

  validation {
    condition     = var.scale_in_cooldown >= 0 && floor(var.scale_in_cooldown) == var.scale_in_cooldown
    error_message = "scale_in_cooldown must be a whole number of seconds, 0 or more."
  }
}

variable "scale_out_cooldown" {
  description = "Seconds after a completed scale-out before one of the same size."
  type        = number
  default     = 300
  nullable    = false

  validation {
    condition     = var.scale_out_cooldown >= 0 && floor(var.scale_out_cooldown) == var.scale_out_cooldown
    error_message = "scale_out_cooldown must be a whole number of seconds, 0 or more."
  }
}

variable "disable_scale_in" {
  description = "Whether the policy may only add instances."
  type        = bool
  default     = false
  nullable    = false
}

variable "predefined_metric_type" {
  description = "Metric that the policy tracks, unless customized_metric is given."
  type        = string
  default     = "SageMakerVariantInvocationsPerInstance"
  nullable    = false

  validation {
    condition = contains([
      "SageMakerVariantInvocationsPerInstance",
      "SageMakerVariantConcurrentRequestsPerModelHighResolution",
    ], var.predefined_metric_type)
    error_message = "predefined_metric_type must be SageMakerVariantInvocationsPerInstance or SageMakerVariantConcurrentRequestsPerModelHighResolution."
  }
}

variable "customized_metric" {
  description = "CloudWatch metric of the variant to track instead of a predefined one. CPUUtilization runs from 0 to 100 times the number of vCPUs, GPUUtilization and GPUMemoryUtilization from 0 to 100 times the number of GPUs, MemoryUtilization from 0 to 100."
  type = object({
    metric_name = string
    namespace   = optional(string, "/aws/sagemaker/Endpoints")
    statistic   = optional(string, "Average")
    unit        = optional(string, "Percent")
  })
  default = null

  validation {
    condition     = var.customized_metric == null || contains(["Average", "Minimum", "Maximum", "SampleCount", "Sum"], try(var.customized_metric.statistic, "-"))
    error_message = "customized_metric.statistic must be Average, Minimum, Maximum, SampleCount or Sum."
  }

  validation {
    condition     = var.customized_metric == null || try(length(var.customized_metric.metric_name) > 0 && length(var.customized_metric.namespace) > 0, false)
    error_message = "customized_metric needs a metric_name and a namespace."
  }
}

variable "scheduled_actions" {
  description = "Times at which the bounds change. Nothing restores the old bounds by itself: each change needs a second action that takes it back. An apply sets the bounds to min_capacity and max_capacity until the next action fires."
  type = list(object({
    name         = string
    schedule     = string
    timezone     = optional(string, "UTC")
    min_capacity = optional(string)
    max_capacity = optional(string)
    start_time   = optional(string)
    end_time     = optional(string)
  }))
  default  = []
  nullable = false

  validation {
    condition     = length(distinct(var.scheduled_actions[*].name)) == length(var.scheduled_actions)
    error_message = "scheduled_actions must have distinct names."
  }

  validation {
    condition     = alltrue([for action in var.scheduled_actions : can(regex("^[^[:cntrl:]|:/]{1,256}$", action.name))])
    error_message = "A scheduled action's name has 1 to 256 characters and none of | : /."
  }

  validation {
    condition     = alltrue([for action in var.scheduled_actions : can(regex("^(cron|rate|at)\\(.+\\)$", action.schedule))])
    error_message = "A schedule is written cron(...), rate(...) or at(...)."
  }

  validation {
    condition = alltrue([
      for action in var.scheduled_actions :
      (action.min_capacity != null || action.max_capacity != null)
      && (action.min_capacity == null || can(regex("^[1-9][0-9]*$", action.min_capacity)))
      && (action.max_capacity == null || can(regex("^[1-9][0-9]*$", action.max_capacity)))
      && try(tonumber(action.min_capacity) <= tonumber(action.max_capacity), true)
    ])
    error_message = "A scheduled action sets min_capacity, max_capacity or both, as whole numbers of at least 1 in order."
  }

  validation {
    condition     = length(var.scheduled_actions) == 0 || var.max_capacity != null
    error_message = "scheduled_actions need min_capacity and max_capacity."
  }
}
