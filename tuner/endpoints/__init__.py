"""The thing under test behind one Protocol: SageMaker through boto3, or plain HTTP.

This is the only room that talks to AWS's control plane. Everything it can change there is
listed in :data:`tuner.endpoints.operations.WRITES`, and no client made here can call anything
that is not listed.
"""
