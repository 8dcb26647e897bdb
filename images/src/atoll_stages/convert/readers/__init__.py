"""One reader per annotation format: `detects` says whether an archive is of it, `read` streams its examples."""
