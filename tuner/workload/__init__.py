"""Arrival processes, traffic profiles and payload corpora."""
