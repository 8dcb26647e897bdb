"""Models on the device: store, proof, and the way from the bucket into service."""
