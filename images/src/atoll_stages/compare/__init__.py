"""compare: two models on the same images, with their metrics side by side."""
