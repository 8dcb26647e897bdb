"""The local engine: the operator's `decide` and Jobs on one machine, with processes for pods and a folder for a bucket.

Beside `atoll_cli.tool` the only place of the command line that starts stages.
"""
