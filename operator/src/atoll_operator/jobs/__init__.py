"""The Job of one or two stages as pure functions; `manifest.build_job` is the whole."""
