"""Where pictures come from: cameras, files, a synthetic scene."""
