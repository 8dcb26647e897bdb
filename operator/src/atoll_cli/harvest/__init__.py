"""From the frames that devices were unsure of to a batch for labelling."""
