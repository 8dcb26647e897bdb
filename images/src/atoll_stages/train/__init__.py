"""train: trains a detector on the converted dataset and keeps its best weights."""
