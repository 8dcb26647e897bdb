"""How a zip file says a member's name: in UTF-8, in the code page of DOS, or in a field of its own.

PKWARE APPNOTE 6.3, section 4.4.4 (bit 11), section 4.6.9 (Unicode path) and appendix D.
"""

import struct
import zlib

_UTF8 = 0x800
_UNICODE_PATH = 0x7075


def utf8_name(raw_name: bytes, flags: int, extra: bytes) -> bytes:
    """The name in UTF-8, with `/` between its parts.

    Without the UTF-8 flag it is the Unicode path of the extra fields, else the name itself where that is valid UTF-8
    (Linux and macOS pack so, without the flag), else the name in code page 437, as the Windows Explorer packs it. A
    backslash separates folders, as .NET and PowerShell pack them; a path that leads outside is refused by `safe_name`.
    """
    return _decoded(raw_name, flags, extra).replace(b"\\", b"/")


def _decoded(raw_name: bytes, flags: int, extra: bytes) -> bytes:
    if flags & _UTF8:
        return raw_name
    field = extra_field(extra, _UNICODE_PATH)
    # The field is out of date where a tool without knowledge of it has renamed the member.
    if len(field) > 5 and field[0] == 1 and struct.unpack_from("<L", field, 1)[0] == zlib.crc32(raw_name):
        return field[5:]
    try:
        raw_name.decode("utf-8")
    except UnicodeDecodeError:
        return raw_name.decode("cp437").encode("utf-8")
    return raw_name


def extra_field(extra: bytes, wanted: int) -> bytes:
    """The content of the extra field of this kind; empty without one."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == wanted:
            return extra[4 : 4 + length]
        extra = extra[4 + length :]
    return b""
