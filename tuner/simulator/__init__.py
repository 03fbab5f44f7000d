"""Policies against traffic and capacity on a virtual clock."""
