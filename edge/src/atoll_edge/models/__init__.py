"""Models on the device: download, verification, the store of releases, and activation."""
