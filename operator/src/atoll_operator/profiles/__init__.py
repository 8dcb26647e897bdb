"""The snapshots of TrainingProfiles that runs keep."""
