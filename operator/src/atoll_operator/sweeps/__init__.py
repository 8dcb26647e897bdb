"""Sweeps: what is tried next, what is ended early, and what is published. Pure, for both engines."""
