"""The API `atoll.dev/v1alpha1` in Python: reading YAML, validating it as the API server does, and typed specs."""

GROUP = "atoll.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
