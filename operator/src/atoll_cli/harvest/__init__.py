"""Collects the frames that devices were unsure of, and makes a batch for labelling of them."""
