"""The detector child process, its backends, and the agent's side of it."""
