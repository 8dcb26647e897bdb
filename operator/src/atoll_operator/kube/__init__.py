"""The Kubernetes API: kinds, calls, watches, errors, and the Lease."""
