"""Reads YAML as kubectl does, with the line of each value.

kubectl reads YAML with sigs.k8s.io/yaml, that is go-yaml v2 and then JSON: YAML 1.1's words for true and false,
octal and binary integers, no sexagesimal numbers, and dates that stay text. The rules here are go-yaml's `resolve`,
followed by what its values become in JSON.
"""

import base64
import binascii
import math
import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml as pyyaml

Path = tuple[str | int, ...]

# An object of the API server's store has at most 1.5 MiB; anything larger is no manifest.
MAX_CHARACTERS = 3 * 2**20
# Aliases may repeat content without end; go-yaml refuses such documents too.
MAX_NODES = 100_000
MAX_DEPTH = 100

_STRING_TAG = "tag:yaml.org,2002:str"
_MERGE = "<<"


Scalar = str | int | float | bool | None

_LITERALS: dict[str, Scalar] = {
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
    if text in _LITERALS:
        return _LITERALS[text]
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
    """A float after its way through JSON: Go writes 1e3 as 1000, which the API server reads as an integer."""
    return int(value) if value.is_integer() and int(value) in _INT64 else value


def _binary(text: str) -> str:
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise ValueError("!!binary must hold base64 of UTF-8 text here") from None


class YamlError(ValueError):
    """The text is not YAML. `line` and `column` count from 1."""

    def __init__(self, message: str, *, line: int, column: int = 1) -> None:
        super().__init__(f"line {line}: {message}")
        self.message = message
        self.line = line
        self.column = column


@dataclass(frozen=True)
class YamlDocument:
    """One document: plain JSON types, and the line of each value (of its key, in a mapping)."""

    value: Any
    lines: Mapping[Path, int] = field(default_factory=dict)

    def line(self, path: Path) -> int:
        """The line of `path`, or of its nearest parent in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read_documents(text: str) -> tuple[YamlDocument, ...]:
    """The documents of `text` without empty ones, as kubectl does.

    Raises:
        YamlError: it is not YAML, or says something that JSON cannot.
    """
    if len(text) > MAX_CHARACTERS:
        raise YamlError(f"the file has {len(text)} characters; at most {MAX_CHARACTERS} are read", line=1)
    try:
        documents = tuple(_Builder().document(node) for node in pyyaml.compose_all(text, Loader=_Loader))
    except pyyaml.MarkedYAMLError as error:
        raise _marked(error, text) from None
    except pyyaml.reader.ReaderError as error:
        raise _unreadable(error, text) from None
    except RecursionError:
        raise YamlError(f"nested deeper than {MAX_DEPTH} levels", line=1) from None
    return tuple(document for document in documents if document.value is not None)


class _Loader(pyyaml.BaseLoader):
    """PyYAML's parser without its types, which takes tabs between tokens as libyaml does."""

    def resolve(self, kind: type[pyyaml.Node], value: str | None, implicit: Any) -> str:  # noqa: ARG002
        # The empty tag marks an unquoted scalar; PyYAML gives no other sign of it.
        return "" if kind is pyyaml.ScalarNode and implicit[0] else _STRING_TAG

    def compose_node(self, parent: pyyaml.Node | None, index: Any) -> pyyaml.Node | None:
        # Here, before there is a node: PyYAML takes its time with thousands of open brackets.
        self._depth = getattr(self, "_depth", 0) + 1
        if self._depth > MAX_DEPTH:
            mark = self.get_mark()
            raise pyyaml.composer.ComposerError(None, None, f"nested deeper than {MAX_DEPTH} levels", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def scan_directive(self) -> Any:
        raise pyyaml.scanner.ScannerError(None, None, "kubectl reads no % directives; remove the line", self.get_mark())

    def scan_to_next_token(self) -> None:
        super().scan_to_next_token()
        while self.peek() == "\t" and (self.flow_level or not self.allow_simple_key):
            self.forward()
            super().scan_to_next_token()


class _Builder:
    """Builds plain values from the nodes of one document."""

    def __init__(self) -> None:
        self.lines: dict[Path, int] = {}
        self.nodes = 0
        self.open: set[int] = set()

    def document(self, node: pyyaml.Node) -> YamlDocument:
        self.lines[()] = _line(node)
        return YamlDocument(self.value(node, ()), self.lines)

    def value(self, node: pyyaml.Node, path: Path) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise _error(node, f"more than {MAX_NODES} values or {MAX_DEPTH} levels, with what aliases repeat")
        if isinstance(node, pyyaml.ScalarNode):
            return _scalar(node)
        if id(node) in self.open:
            raise _error(node, "an anchor that contains itself")
        self.open.add(id(node))
        try:
            return self._mapping(node, path) if isinstance(node, pyyaml.MappingNode) else self._sequence(node, path)
        finally:
            self.open.remove(id(node))

    def _sequence(self, node: pyyaml.Node, path: Path) -> list[Any]:
        values = []
        for index, item in enumerate(node.value):
            item_path = (*path, index)
            self.lines[item_path] = _line(item)
            values.append(self.value(item, item_path))
        return values

    def _mapping(self, node: pyyaml.Node, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in _pairs(node):
            key = _key(key_node)
            item_path = (*path, key)
            if key in result:
                first = self.lines[item_path]
                raise _error(key_node, f'the key "{key}" is here a second time (first on line {first}); remove one')
            self.lines[item_path] = _line(key_node)
            result[key] = self.value(value_node, item_path)
        return result


def _pairs(node: pyyaml.Node) -> Iterator[tuple[pyyaml.Node, pyyaml.Node]]:
    """Keys and values of a mapping, with those that `<<` merges."""
    for key, value in node.value:
        if isinstance(key, pyyaml.ScalarNode) and key.tag == "" and key.value == _MERGE:
            for merged in value.value if isinstance(value, pyyaml.SequenceNode) else [value]:
                if not isinstance(merged, pyyaml.MappingNode):
                    raise _error(value, "<< takes a mapping, or a list of mappings")
                yield from _pairs(merged)
        else:
            yield key, value


def _scalar(node: pyyaml.ScalarNode) -> Scalar:
    try:
        # JSON escapes characters beyond U+FFFF as two halves.
        text: str = node.value.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise _error(node, "an escape of half a character (a lone surrogate)") from None
    try:
        if node.tag == "":
            return plain(text)
        return text if node.tag == _STRING_TAG else tagged(node.tag, text)
    except ValueError as error:
        raise _error(node, str(error)) from None


def _key(node: pyyaml.Node) -> str:
    """A key as text, as JSON requires: numbers and booleans are written as sigs.k8s.io/yaml does."""
    value: Hashable = _scalar(node) if isinstance(node, pyyaml.ScalarNode) else None
    if value is None:
        raise _error(node, "a key must be text, a number or a truth value")
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _line(node: pyyaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _error(node: pyyaml.Node, message: str) -> YamlError:
    return YamlError(message, line=_line(node), column=node.start_mark.column + 1)


def _marked(error: pyyaml.MarkedYAMLError, text: str) -> YamlError:
    mark = error.problem_mark or error.context_mark
    message = " ".join(part for part in (error.context, error.problem) if part)
    if mark is None:
        return YamlError(message, line=1)
    start, lines = error.context_mark, text.splitlines()
    if "'\\t'" in message:
        message = "a tab where YAML wants spaces; indent with spaces"
    elif "could not find expected ':'" in message and start is not None:
        mark, message = start, _without_colon(lines[start.line])
    elif "mapping values are not allowed" in message:
        # The scanner sees a key without colon only at the colon of the next line.
        key = lines[mark.line - 1] if mark.line else ""
        if re.fullmatch(r"\s*(- )?[\w.-]+( [^:#]*)?", key) and key.strip():
            return YamlError(_without_colon(key), line=mark.line)
        message += '; quote the text if it holds ": ", or check the indentation'
    elif "expected <block end>" in message and start is not None:
        message = (
            f"this line begins in column {mark.column + 1}, and the list or mapping that it belongs to, from line "
            f"{start.line + 1} on, in column {start.column + 1}; give all its lines the same indentation"
        )
    return YamlError(message, line=mark.line + 1, column=mark.column + 1)


def _without_colon(line: str) -> str:
    key, _, value = line.strip().removeprefix("- ").partition(" ")
    return f'there is no ":" after {key}; write "{key}: {value.strip() or "…"}"'


def _unreadable(error: pyyaml.reader.ReaderError, text: str) -> YamlError:
    line = text.count("\n", 0, int(error.position)) + 1
    return YamlError(f"the character U+{int(error.character):04X} may not stand in YAML", line=line)
