"""SageMaker on loopback: the AWS wire over fleet and autoscaling."""
