"""The Terraform module, and the writer of its variables."""
