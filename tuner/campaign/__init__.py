"""What to measure next, and what the measurements say. Pure decisions, no clock, no socket."""
