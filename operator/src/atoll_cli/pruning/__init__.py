"""What of a store nobody needs any more, and removing it: `atoll prune`."""
