"""NetworkTables: the one adapter and the tables that robot code reads."""
