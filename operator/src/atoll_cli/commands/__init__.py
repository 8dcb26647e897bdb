"""The commands of `atoll`, a module per command or group of commands that belong together."""
