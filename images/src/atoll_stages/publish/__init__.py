"""publish: makes the files of a run one immutable version that devices find."""
