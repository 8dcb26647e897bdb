"""convert: turns archives of labelled images into TFRecord shards, a label map and `dataset.json`."""
