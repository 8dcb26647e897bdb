"""The detector: worker processes with their backends, and the agent's side of them."""
