"""`atoll ui`: one page on this machine over the same functions as the command line."""
