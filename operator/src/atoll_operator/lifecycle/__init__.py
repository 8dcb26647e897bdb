"""The life of a run as pure functions; `decision.decide` is the whole."""
