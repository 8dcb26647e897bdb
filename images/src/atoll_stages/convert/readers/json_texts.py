"""The texts by which readers tell JSON documents apart, searched in each file once, whichever readers ask.

The files are searched without being parsed: most are of another reader, and there may be a million of them.
"""

from array import array
from codecs import BOM_UTF8

from atoll_contract.archive.extract import Member
from atoll_contract.archive.limits import PIECE

# The document is a list.
LIST = b"["
_TEXTS = (
    *(b'"images"', b'"annotations"', b'"categories"'),
    *(b'"shapes"', b'"imagePath"'),
    *(b'"annotation', b'"coordinates"', b'"image"', b'"imagefilename"'),
)
_BITS = {text: 1 << number for number, text in enumerate((LIST, *_TEXTS))}
_SEARCHED = 1 << len(_BITS)
_LONGEST = max(map(len, _TEXTS))


class JsonTexts:
    """What is known of an archive's JSON files, in two bytes for each member."""

    def __init__(self) -> None:
        self._found = array("H")

    def has(self, file: Member, *texts: bytes) -> bool:
        """Whether a file contains all `texts`, which are LIST or of the texts above."""
        missing = file.number + 1 - len(self._found)
        if missing > 0:
            self._found.extend([0] * missing)
        if not self._found[file.number]:
            self._found[file.number] = _SEARCHED | _search(file)
        return all(self._found[file.number] & _BITS[text] for text in texts)


def _search(file: Member) -> int:
    found, tail = 0, b""
    missing = set(_TEXTS)
    with file.open() as stream:
        while missing and (piece := stream.read(PIECE)):
            if not tail and piece.removeprefix(BOM_UTF8).lstrip().startswith(LIST):
                found |= _BITS[LIST]
            window = tail + piece
            here = {text for text in missing if text in window}
            missing -= here
            found |= sum(_BITS[text] for text in here)
            tail = piece[-_LONGEST:]
    return found
