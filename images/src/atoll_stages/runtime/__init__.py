"""The process around a stage: its parent, its child, logs and exit."""
