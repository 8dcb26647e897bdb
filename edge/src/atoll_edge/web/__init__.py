"""The status page and its server on port 5808."""
