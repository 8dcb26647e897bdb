"""The video library, loaded by what works on video files: the agent on a robot needs none."""

from types import ModuleType

from atoll_contract.errors import SpecError

INSTALL = "pip install '.[video,edge]' in a checkout of Atoll"


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
