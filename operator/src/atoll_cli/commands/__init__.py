"""The commands of `atoll`, with a module for each command or group of related commands."""
