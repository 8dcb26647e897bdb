"""Label maps: writes `map.pbtxt` such that the line-based Raspberry Pi scripts of 2020 read it, and parses text proto.

Layout: `item {`, `id: 1`, `name: "Cargo"`, `}`, each followed by an empty line; ids from 1. The format is the
`StringIntLabelMap` of the TensorFlow Object Detection API in protocol buffer text format
(protobuf.dev/reference/protobuf/textformat-spec).

Models of others come with a list instead, Coral's `labels.txt`: a name on each line, or the number of a class,
which counts from 0, and its name. `read_labels` takes both.
"""

import codecs
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# How a label map begins: comments, then `item` with a bracket.
_LABEL_MAP = re.compile(r"(?:\s|#[^\n]*\n)*item\s*:?\s*[{<]")
_NUMBERED = re.compile(r"([0-9]{1,3})(?:\s*[:,;=]\s*|\s+)(\S.*)")
_UNNAMED = "???"  # in TensorFlow's lists
_FOREIGN = re.compile(r"""^-\s|[{}\[\]<>"]|:\s|:$""")
_PLAIN_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_ESCAPES_OF = {value: key for key, value in _PLAIN_ESCAPES.items()}
_TOKEN = re.compile(
    r"""(?P<skip>(?:\s|\#[^\n]*)+)
      |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      |(?P<number>-?\d+)
      |(?P<word>[A-Za-z_]\w*)
      |(?P<mark>[{}<>:;,\[\]])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{1,2})|([0-7]{1,3})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)
_CLOSING = {"{": "}", "<": ">"}


class LabelMapError(ValueError):
    """The text is not a label map; the message names the line."""


@dataclass(frozen=True)
class Label:
    """One class; ids count from 1."""

    id: int
    name: str


def format_label_map(names: Sequence[str]) -> str:
    """The label map of these classes, ids from 1 in their order."""
    return "".join(
        f'item {{\n\nid: {number}\n\nname: "{_escape(name)}"\n\n}}\n\n' for number, name in enumerate(names, start=1)
    )


def parse_label_map(text: str) -> tuple[Label, ...]:
    """The labels in `text`, by id.

    Raises:
        LabelMapError: not a text proto, an item without id or name, or an id or name given twice.
    """
    tokens = _Tokens(text)
    labels: dict[int, Label] = {}
    while not tokens.at_end:
        label = _item(tokens)
        if label.id in labels or any(known.name == label.name for known in labels.values()):
            raise tokens.error(f"id {label.id} or name {label.name!r} stands there twice")
        labels[label.id] = label
    return tuple(labels[number] for number in sorted(labels))


def labels_text(labels: Iterable[str]) -> str:
    """A list of names: one on each line, in the order of their numbers from 0."""
    return "".join(f"{' '.join(label.split())}\n" for label in labels)


def read_labels(path: Path) -> tuple[str, ...]:
    """The class names in a label map or a list of names, by their numbers.

    Raises:
        LabelMapError: it is neither of them, or the ids of a label map are not 1, 2, 3, ….
        OSError: it cannot be read.
    """
    data = path.read_bytes()
    try:
        text = data.decode("utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise _list_error(data.count(b"\n", 0, error.start) + 1, "is not UTF-8") from None
    if _LABEL_MAP.match(text) is None:
        return _parse_list(text.splitlines())
    labels = parse_label_map(text)
    if [label.id for label in labels] != list(range(1, len(labels) + 1)):
        raise LabelMapError(f"ids must be 1, 2, 3, …, not {[label.id for label in labels][:20]}")
    return tuple(label.name for label in labels)


def _parse_list(lines: Sequence[str]) -> tuple[str, ...]:
    """The names in the lines; `class 7` for a number that has none."""
    rows = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        raise _list_error(1, "has no name")
    numbered = _NUMBERED.fullmatch(rows[0][1]) is not None
    if rows[0][1] == _UNNAMED:  # it stands for the background, which a detector does not report
        rows = rows[1:]
    names: dict[int, str] = {}
    for line, text in rows:
        match = _NUMBERED.fullmatch(text)
        if numbered is (match is None):
            wrong = "is no number and name, as the first is" if numbered else "has a number, unlike the first"
            raise _list_error(line, f"{wrong}: {text[:60]!r}")
        index, name = (int(match[1]), match[2]) if match else (len(names), text)
        if _FOREIGN.search(name) or not name.isprintable():
            raise _list_error(line, f"is no name: {text[:60]!r}")
        if index in names or (name != _UNNAMED and name in names.values()):
            raise _list_error(line, f"has a number or name that stands there already: {text[:60]!r}")
        names[index] = name
    listed = (names.get(number, _UNNAMED) for number in range(max(names, default=-1) + 1))
    return tuple(f"class {number}" if name == _UNNAMED else name for number, name in enumerate(listed))


def _list_error(line: int, what: str) -> LabelMapError:
    return LabelMapError(
        f"line {line} {what}; labels are a list of names in UTF-8 (on each line a name, or a number from 0 to 999 and "
        'a name), or a map.pbtxt (item { id: 1 name: "note" })'
    )


def _escape(name: str) -> str:
    """`name` inside double quotes; UTF-8 is not escaped, so that old parsers show it."""
    return "".join(_escaped(character) for character in name)


def _escaped(character: str) -> str:
    if character in '\\"':
        return "\\" + character
    if character in _ESCAPES_OF:
        return "\\" + _ESCAPES_OF[character]
    if character.isprintable() or character == " ":
        return character
    return "".join(f"\\{byte:03o}" for byte in character.encode())


class _Tokens:
    """The tokens of a text proto, with one token of lookahead."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._stream = self._scan()
        self._start = 0
        self.kind, self.value = "", ""
        self.advance()

    @property
    def at_end(self) -> bool:
        return self.kind == "end"

    def advance(self) -> str:
        """Goes on to the next token and returns the current one."""
        left = self.value
        self._start, self.kind, self.value = next(self._stream)
        return left

    def expect(self, *allowed: str) -> str:
        if self.value not in allowed or self.kind == "string":
            raise self.error(f"expected {' or '.join(allowed)}")
        return self.advance()

    def error(self, what: str) -> LabelMapError:
        line = self._text.count("\n", 0, self._start) + 1
        column = self._start - (self._text.rfind("\n", 0, self._start) + 1) + 1
        return LabelMapError(f"label map line {line} col {column}: {what}")

    def _scan(self) -> Iterator[tuple[int, str, str]]:
        position = 0
        while position < len(self._text):
            match = _TOKEN.match(self._text, position)
            if match is None:
                self._start = position
                raise self.error(f"unexpected {self._text[position]!r}")
            if match.lastgroup != "skip":
                yield position, str(match.lastgroup), match.group()
            position = match.end()
        while True:
            yield position, "end", "end of file"


def _item(tokens: _Tokens) -> Label:
    tokens.expect("item")
    if tokens.value == ":":
        tokens.advance()
    closing = _CLOSING[tokens.expect("{", "<")]
    number, name = None, None
    while tokens.value != closing or tokens.kind == "string":
        if tokens.kind != "word":
            raise tokens.error(f"expected a field or {closing}")
        match tokens.advance():
            case "id":
                number = _integer(tokens)
            case "name":
                name = _string(tokens)
            case _:
                _skip_value(tokens)
        if tokens.value in (",", ";") and tokens.kind == "mark":
            tokens.advance()
    if number is None or name is None:
        raise tokens.error("an item needs both id and name")
    tokens.advance()
    return Label(id=number, name=name)


def _integer(tokens: _Tokens) -> int:
    tokens.expect(":")
    if tokens.kind != "number" or len(tokens.value) > 9 or int(tokens.value) < 1:
        raise tokens.error("id must be a number from 1")
    return int(tokens.advance())


def _string(tokens: _Tokens) -> str:
    tokens.expect(":")
    if tokens.kind != "string":
        raise tokens.error("name must be a quoted string")
    data = b""
    while tokens.kind == "string":
        data += _unescape(tokens.advance()[1:-1])
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise tokens.error("name is not UTF-8") from None


def _unescape(body: str) -> bytes:
    pieces, last = [], 0
    for match in _ESCAPE.finditer(body):
        pieces += [body[last : match.start()].encode(), _meaning(match)]
        last = match.end()
    return b"".join([*pieces, body[last:].encode()])


def _meaning(match: re.Match[str]) -> bytes:
    hexadecimal, octal, short, long, plain = match.groups()
    if hexadecimal or octal:
        return bytes([int(hexadecimal, 16) if hexadecimal else int(octal, 8) & 0xFF])
    if short or long:
        code = int(short or long, 16)
        return chr(code).encode("utf-8", "replace") if code < 0x110000 else b"?"
    return _PLAIN_ESCAPES.get(plain, plain).encode()


def _skip_value(tokens: _Tokens) -> None:
    """Skips a field that Atoll does not use (`display_name: "…"`, a nested message)."""
    if tokens.value == ":":
        tokens.advance()
    depth = 0
    while True:
        if tokens.at_end:
            raise tokens.error("unexpected end")
        kind, value = tokens.kind, tokens.advance()
        if kind == "mark" and value in "{<[":
            depth += 1
        elif kind == "mark" and value in "}>]":
            depth -= 1
        if depth < 0:
            raise tokens.error("expected a value")
        if depth == 0:
            return
