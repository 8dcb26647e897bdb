"""Drafts a run.yaml for labelled archives: names, settings and a time estimate, for `atoll new` and `atoll ui`."""
