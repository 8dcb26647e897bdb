"""What people look at: annotated frames and MJPEG streams."""
