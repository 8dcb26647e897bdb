"""The operator at work: what is queued, looked at, decided, carried out and remembered."""
