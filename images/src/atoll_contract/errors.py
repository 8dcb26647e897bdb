"""The exceptions of Atoll's programs.

AtollError            carries a Reason; its text is for the user
├── DatasetError      the user's data: unsafe, malformed, too large, nothing usable
├── SpecError         a wrong or missing setting
├── ModelError        training, export or compile cannot go on
├── IntegrityError    bytes are not what their digest or signature says
└── StoreError        the object store (kinds in `store.py`)
"""

from atoll_contract.reasons import ExitCode, Reason, exit_code

MAX_MESSAGE = 1024


class AtollError(Exception):
    """A failure with a reason from the closed list and a sentence that a user can act on.

    `message` says what failed, where (object, member, line), the measured value and the limit, and what to do.
    It never holds a credential.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = bounded(message)

    @property
    def code(self) -> ExitCode:
        return exit_code(self.reason)


class DatasetError(AtollError):
    """The user's data cannot be used as it is."""


class SpecError(AtollError):
    """A setting is missing or out of its range."""

    def __init__(self, message: str, reason: Reason = Reason.INVALID_SPEC) -> None:
        super().__init__(reason, message)


class ModelError(AtollError):
    """Training, export or compile cannot go on."""


class IntegrityError(AtollError):
    """Bytes differ from their digest, or a signature does not hold."""

    def __init__(self, message: str, reason: Reason = Reason.INTEGRITY_MISMATCH) -> None:
        super().__init__(reason, message)


def bounded(text: str, limit: int = MAX_MESSAGE) -> str:
    """`text` on one line without control characters, cut to `limit` characters."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
