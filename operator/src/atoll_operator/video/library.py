"""The video library, loaded when a command needs it: nothing else of `atoll` does."""

from types import ModuleType

from atoll_contract.errors import SpecError

INSTALL = "pip install '.[operator,video]' in a checkout of Atoll"


def load_av() -> ModuleType:
    """PyAV, FFmpeg's libraries.

    Raises:
        SpecError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise SpecError(f"videos need the package av, which is not installed here ({error}); {INSTALL}") from None
    return av
