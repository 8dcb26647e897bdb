"""The local engine: the operator's `decide` and Jobs on one machine, with processes for pods and a folder for a bucket.

In the command line only this package and `atoll_cli.tool` start stages.
"""
