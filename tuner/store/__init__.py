"""A run directory: a durable SQLite journal beside columnar request files."""
