"""export: weights become a quantised .tflite, measured, with golden pictures and a report."""
