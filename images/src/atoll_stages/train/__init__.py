"""train: the converted dataset becomes the best weights of a detector."""
