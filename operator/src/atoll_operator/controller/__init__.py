"""The control loop of TrainingRuns: events, work queue, cache, and one reconcile after the other."""
