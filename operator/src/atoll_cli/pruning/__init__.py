"""Finds and removes what nobody needs any more in a store: `atoll prune`."""
