"""Why a release does not serve."""

from atoll_contract.errors import AtollError
from atoll_contract.reasons import Reason


class Refusal(AtollError):
    """A release will not be served as it is now; another look may find it, or this device's settings, mended."""


class FinalRefusal(Refusal):
    """`release`, by the digest of its manifest, was tried and failed: these bytes are never tried again."""

    def __init__(self, reason: Reason, message: str, release: str) -> None:
        super().__init__(reason, message)
        self.release = release
