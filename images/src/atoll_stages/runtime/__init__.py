"""The processes of a stage: a parent that supervises, and a child that does the work."""
