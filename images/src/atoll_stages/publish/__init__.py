"""publish: the files of a run become one immutable version that devices find."""
