"""publish: makes the files of a run an immutable version of a model, and points its channel to it."""
