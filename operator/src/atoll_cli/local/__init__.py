"""The embedded engine: the same `decide` and the same Jobs as on a cluster, as processes of this machine.

The only place of the operator, with one module of the command line, that starts stages.
"""
