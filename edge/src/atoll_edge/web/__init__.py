"""The status server on port 5808."""
