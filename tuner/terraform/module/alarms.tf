# Alarms that see only the new fleet: old and new differ by the name of their configuration. The
# endpoint depends on them, so they watch the new configuration before the update begins.
resource "aws_cloudwatch_metric_alarm" "deployment" {
  for_each = { for alarm in var.deployment_alarms : alarm.name => alarm }

  alarm_name          = "${var.name}-${each.value.name}"
  alarm_description   = "Rolls a deployment of ${var.name} back."
  namespace           = "AWS/SageMaker"
  metric_name         = each.value.metric_name
  statistic           = startswith(each.value.statistic, "p") ? null : each.value.statistic
  extended_statistic  = startswith(each.value.statistic, "p") ? each.value.statistic : null
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  period              = each.value.period
  evaluation_periods  = each.value.evaluation_periods
  datapoints_to_alarm = coalesce(each.value.datapoints_to_alarm, each.value.evaluation_periods)
  # No traffic yet is no reason to roll back.
  treat_missing_data = "notBreaching"
  tags               = var.tags

  dimensions = {
    EndpointName       = var.name
    VariantName        = var.variant_name
    EndpointConfigName = aws_sagemaker_endpoint_configuration.this.name
  }
}
