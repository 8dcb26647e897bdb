"""Videos: recording them (`atoll record`) and choosing the frames worth labelling (`atoll frames`)."""
