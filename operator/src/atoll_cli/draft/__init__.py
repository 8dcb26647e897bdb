"""A run.yaml for a labelled data set: names, settings and a time estimate. `atoll new` and `atoll ui` write it."""
