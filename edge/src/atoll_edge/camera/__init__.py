"""Frame sources: cameras, image and video files, a synthetic scene."""
