"""What two processes of Atoll have to agree on: names, documents, exit codes, keys and the store.

These modules import only msgspec and the standard library at their top; boto3, cryptography, numpy and Pillow are
imported by the functions that need them, so that every image can carry this package.
"""

__version__ = "0.2.0"
API_VERSION = "atoll.dev/v1alpha1"
