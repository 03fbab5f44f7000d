"""The plan of a campaign: ``tuner.toml`` and flags, checked as a whole."""
