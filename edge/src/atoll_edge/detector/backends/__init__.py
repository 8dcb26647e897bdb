"""What runs a model: a backend for each accelerator and one for the CPU, and which of them a device takes."""
