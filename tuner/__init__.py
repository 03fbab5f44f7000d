"""Measure a SageMaker endpoint, and set its autoscaling from what was measured."""

__version__ = "0.1.0"
