"""The life of a run as pure functions: `decide.decide` calls all others."""
