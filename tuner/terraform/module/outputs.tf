output "endpoint_name" {
  description = "Name to invoke."
  value       = aws_sagemaker_endpoint.this.name
}

output "endpoint_arn" {
  description = "ARN of the endpoint."
  value       = aws_sagemaker_endpoint.this.arn
}

output "endpoint_config_name" {
  description = "Name of the configuration in use."
  value       = aws_sagemaker_endpoint_configuration.this.name
}

output "variant_name" {
  description = "Name of the only production variant."
  value       = var.variant_name
}

output "scalable_target_resource_id" {
  description = "Resource id of the scalable target, or null without autoscaling."
  value       = one(aws_appautoscaling_target.this[*].resource_id)
}

output "scaling_policy_arn" {
  description = "ARN of the target-tracking policy, or null without one."
  value       = one(aws_appautoscaling_policy.this[*].arn)
}

output "scaling_alarm_arns" {
  description = "ARNs of the alarms that the policy made."
  value       = flatten(aws_appautoscaling_policy.this[*].alarm_arns)
}
