"""`atoll doctor`: pure checks, one family in each module, over facts that are read from the cluster once."""
