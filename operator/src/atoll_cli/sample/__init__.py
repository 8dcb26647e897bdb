"""The sample: files of the project's own to try every command with."""
