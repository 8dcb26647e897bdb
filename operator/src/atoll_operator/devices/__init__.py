"""The mirror: what devices report to the bucket, shown as EdgeDevices of one namespace.

It runs with that namespace's bucket credentials, which the operator never has; see docs/operator.md.
"""
