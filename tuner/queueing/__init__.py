"""Exact queueing references, the latency-curve model, and capacity under an SLO."""
