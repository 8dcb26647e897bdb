"""convert: labelled pictures in an archive become TFRecord shards, a label map and `dataset.json`."""
