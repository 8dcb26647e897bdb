"""compare: runs two models on the same images and sets their metrics side by side."""
