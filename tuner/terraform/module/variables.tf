# The seven variables every SageMaker endpoint template starts from.

variable "name" {
  description = "Name of the endpoint; the model and the endpoint configuration derive theirs from it."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$", var.name)) && length(var.name) <= 63
    error_message = "name must be 1 to 63 letters, digits and inner hyphens (SageMaker's rule for endpoint names)."
  }
}

variable "sm_role_arn" {
  description = "ARN of the IAM role that SageMaker assumes to pull the image and read the model."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[^[:space:]]+$", var.sm_role_arn))
    error_message = "sm_role_arn must look like arn:aws:iam::123456789012:role/NAME."
  }
}

variable "image_uri" {
  description = "URI of the inference image in ECR, with tag or digest."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[^[:space:]]{1,255}$", var.image_uri))
    error_message = "image_uri must be 1 to 255 characters without white space."
  }
}

variable "model_data_s3" {
  description = "S3 URI of the model archive; the S3 prefix of all archives when multi_model is true."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^(s3|https)://[^/[:space:]]+/[^[:space:]]*$", var.model_data_s3)) && length(var.model_data_s3) <= 1024
    error_message = "model_data_s3 must be an s3:// or https:// URI with a bucket, at most 1024 characters."
  }
}

variable "instance_type" {
  description = "Instance type of the variant."
  type        = string
  default     = "ml.m5.xlarge"
  nullable    = false

  validation {
    condition     = can(regex("^ml\\.[a-z0-9-]+\\.[a-z0-9-]+$", var.instance_type))
    error_message = "instance_type must look like ml.m5.xlarge."
  }
}

variable "instance_count" {
  description = "Instances the variant starts with. Under autoscaling it counts at creation and at each new release; otherwise it is the size of the fleet."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = var.instance_count >= 1 && floor(var.instance_count) == var.instance_count
    error_message = "instance_count must be a whole number of at least 1."
  }
}

variable "env" {
  description = "Environment of the inference container."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = length(var.env) <= 100 && alltrue([for key in keys(var.env) : can(regex("^[a-zA-Z_][a-zA-Z0-9_]*$", key))])
    error_message = "env takes at most 100 entries, each named by letters, digits and underscores."
  }
}

# What the endpoint is made of, beyond the template.

variable "variant_name" {
  description = "Name of the only production variant. It is part of the scalable target's resource id, so it is always explicit."
  type        = string
  default     = "AllTraffic"
  nullable    = false

  validation {
    condition     = can(regex("^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$", var.variant_name)) && length(var.variant_name) <= 63
    error_message = "variant_name must be 1 to 63 letters, digits and inner hyphens."
  }
}

variable "routing_strategy" {
  description = "How requests are spread over instances; null leaves it to SageMaker (RANDOM)."
  type        = string
  default     = null

  validation {
    condition     = var.routing_strategy == null || contains(["RANDOM", "LEAST_OUTSTANDING_REQUESTS"], coalesce(var.routing_strategy, "-"))
    error_message = "routing_strategy must be RANDOM or LEAST_OUTSTANDING_REQUESTS."
  }
}

variable "multi_model" {
  description = "Whether the container serves many models from the prefix model_data_s3."
  type        = bool
  default     = false
  nullable    = false
}

variable "tags" {
  description = "Tags of every resource that takes them."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = length(var.tags) <= 50
    error_message = "AWS takes at most 50 tags."
  }
}
