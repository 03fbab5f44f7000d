"""Simulated instances behind a router: one model for the virtual and the wall clock."""
