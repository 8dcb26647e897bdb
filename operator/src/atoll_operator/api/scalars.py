"""What an unquoted YAML scalar means to kubectl.

kubectl reads YAML with sigs.k8s.io/yaml, that is go-yaml v2 and then JSON: YAML 1.1's words for true and false,
octal and binary integers, no sexagesimal numbers, and dates that stay text. The rules here are go-yaml's `resolve`,
followed by what its values become in JSON.
"""

import base64
import binascii
import math
import re

Scalar = str | int | float | bool | None

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
# Go's base prefixes, with a leading 0 for octal.
_INTEGER = re.compile(
    r"(?P<sign>[-+]?)(?:0[xX](?P<hex>[0-9a-fA-F]+)|0[bB](?P<bin>[01]+)|0[oO]?(?P<oct>[0-7]+)|(?P<dec>0|[1-9][0-9]*))"
)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_BETWEEN_DIGITS = re.compile(r"(?<=[0-9])_(?=[0-9])")
_BASES = {"hex": 16, "bin": 2, "oct": 8, "dec": 10}

_TAG_PREFIX = "tag:yaml.org,2002:"
_TYPES: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "null": (type(None),),
    "timestamp": (str,),
}
_INT64 = range(-(2**63), 2**63)
_UINT64_END = 2**64


def plain(text: str) -> Scalar:
    """The value of an unquoted scalar.

    Raises:
        ValueError: it is infinite or no number, which JSON cannot say.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} cannot be written in JSON; give a finite number, or quote it if it is text")
    if text[0] not in "+-.0123456789":
        return text
    # Go drops every "_" from what begins with a sign or digit, else only those between two digits.
    compact = _BETWEEN_DIGITS.sub("", text) if text[0] == "." else text.replace("_", "")
    integer = _integer(compact)
    if integer is not None:
        return integer
    if not _FLOAT.fullmatch(compact) or math.isinf(float(compact)):
        return text
    return _json_number(float(compact))


def tagged(tag: str, text: str) -> Scalar:
    """The value of a scalar with an explicit tag; tags that go-yaml does not know leave text.

    Raises:
        ValueError: the text is not what the tag says.
    """
    name = tag.removeprefix(_TAG_PREFIX)
    if name == "binary":
        return _binary(text)
    if name not in _TYPES or name == tag:
        return text
    value = plain(text)
    if name == "timestamp" or (isinstance(value, _TYPES[name]) and not (isinstance(value, bool) and name != "bool")):
        return text if name == "timestamp" else value
    raise ValueError(f"{text!r} is not a !!{name}")


def _integer(text: str) -> int | None:
    match = _INTEGER.fullmatch(text)
    if match is None:
        return None
    base, digits = next((base, digits) for name, base in _BASES.items() if (digits := match[name]) is not None)
    value = int(match["sign"] + digits, base)
    # Beyond 64 bits Go falls back to a float, which _FLOAT then does for decimals.
    fits = value in _INT64 or (0 <= value < _UINT64_END and not match["sign"])
    return value if fits else None


def _json_number(value: float) -> int | float:
    """A float as it comes back out of JSON: Go writes 1e3 as 1000, and the API server reads that as an integer."""
    return int(value) if value.is_integer() and int(value) in _INT64 else value


def _binary(text: str) -> str:
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise ValueError("!!binary must hold base64 of UTF-8 text here") from None
