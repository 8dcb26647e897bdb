"""Video: annotated frames, MJPEG streams, and the evaluation of a model on video files."""
