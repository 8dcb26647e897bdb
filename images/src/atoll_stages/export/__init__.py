"""export: makes a quantised .tflite of the weights, evaluates it, and adds golden images and a report."""
