"""One reader for each annotation format. `base` says what a reader must do, `registry` lists them."""
