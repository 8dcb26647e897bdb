"""The frames that the model is unsure of: kept on the card within bounds, uploaded when there is time."""
