"""Harvesting: frames of which the model is uncertain, kept on the card within bounds, and uploaded."""
