"""What devices report to the bucket, shown as EdgeDevices of one namespace. Chart and settings call it the mirror.

It runs with that namespace's bucket credentials, which the operator never has; see docs/operator.md.
"""
