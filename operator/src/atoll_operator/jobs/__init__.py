"""The Job of a stage attempt as pure functions; `manifest.build_job` is the whole."""
