"""The test bench: a real control plane, a node and the tools they need, on one machine without root where possible."""
