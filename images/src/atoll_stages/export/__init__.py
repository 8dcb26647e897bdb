"""export: weights become a quantised .tflite, measured, with golden images and a report."""
