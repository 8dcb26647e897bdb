"""NetworkTables: the adapter of ntcore, and the topics that robot code reads and writes."""
