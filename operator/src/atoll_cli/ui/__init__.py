"""`atoll ui`: a page on this machine with the functions of the command line."""
