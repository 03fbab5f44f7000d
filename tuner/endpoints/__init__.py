"""The thing under test behind one Protocol. Only this package may import boto3."""
