"""convert: from archives of labelled images to TFRecord shards, a label map and `dataset.json`."""
