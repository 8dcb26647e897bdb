"""Safe extraction of archives from strangers."""
