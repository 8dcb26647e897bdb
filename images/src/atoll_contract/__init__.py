"""What two Atoll processes must agree on, once: names, documents, exit codes, keys and the store.

Only the standard library is imported at the top of these modules; boto3, cryptography, numpy and
Pillow are imported inside the functions that need them, so that every image can carry this package.
"""

API_VERSION = "atoll.dev/v1alpha1"
SCHEMA_VERSION = 1
