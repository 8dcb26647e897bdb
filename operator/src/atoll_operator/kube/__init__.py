"""The Kubernetes API: calls, watches, errors, the Lease, and its objects as views."""
