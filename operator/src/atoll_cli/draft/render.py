"""The text of a run.yaml, with the comments that tell its reader what was found and why it says what it says."""

import json
import re
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence

from atoll_cli.draft.settings import Settings
from atoll_cli.draft.targets import DEFAULT_REF, Place
from atoll_contract.stage import InitFrom, SplitBy
from atoll_contract.tool_reports import LintClass, LintReport
from atoll_operator.api import API_VERSION

# With fewer boxes to learn from a class is hardly ever found.
FEW_BOXES = 50
_MOST_CLASSES = 40
_MOST_WARNINGS = 10
_WIDTH = 116
_PLAIN = re.compile(r"[a-z][a-z0-9-]*(/[A-Za-z0-9_.-]+)*/?")
# YAML 1.1 has them as booleans and nothing.
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null"})


def written(
    look: LintReport, keys: Sequence[str], place: Place, *, draft_run: str, model: str, settings: Settings, time: str
) -> str:
    """A TrainingRun as YAML. Text of the data set stands in comments and quotes only."""
    comments = [f"# {line}".rstrip() for line in _comments(look, keys, time)]
    return "\n".join([*comments, *_object(look, keys, place, run=draft_run, model=model, settings=settings)]) + "\n"


def _comments(look: LintReport, keys: Sequence[str], time: str) -> Iterator[str]:
    names = ", ".join(key.rpartition("/")[2] or key for key in keys)
    negatives = f", {look.negatives} pictures without objects" if look.negatives else ""
    yield from _wrapped(f"{names}: {look.message}{negatives}")
    yield ""
    yield from _table(look)
    yield ""
    yield from _wrapped(_split_words(look))
    for warning in look.warnings[:_MOST_WARNINGS]:
        yield from _wrapped(f"warning: {warning}")
    yield ""
    yield from _wrapped(f"Time: {time}")


def _table(look: LintReport) -> Iterator[str]:
    parts = list(look.split or {})
    shown = look.classes[:_MOST_CLASSES]
    width = max([5, *(len(_plain(item.name)) for item in shown)])
    yield f"{'boxes':<{width}}  " + "  ".join(f"{part:>10}" for part in parts)
    for item in shown:
        counts = "  ".join(f"{item.boxes.get(part, 0):>10}" for part in parts)
        yield f"{_plain(item.name):<{width}}  {counts}{_remark(item)}"
    if len(look.classes) > len(shown):
        yield f"and {len(look.classes) - len(shown)} classes more"


def _remark(item: LintClass) -> str:
    boxes = item.boxes.get("train", 0)
    remarks = [f"fewer than {FEW_BOXES} to learn from: label more, or ignore it"] if boxes < FEW_BOXES else []
    remarks += [f"{item.tiny} tiny"] if item.tiny else []
    return "  " + "; ".join(remarks) if remarks else ""


def _split_words(look: LintReport) -> str:
    counts = ", ".join(f"{count} {part}" for part, count in (look.split or {}).items())
    by = {
        SplitBy.TAGS: "by the export's own tags",
        SplitBy.DATASETS: "by the names of its data sets",
        SplitBy.HASH: "by chance, but the frames of one video stay together",
    }.get(SplitBy(look.split_by), look.split_by)
    return f"The pictures are split {by}: {counts}"


def _object(
    look: LintReport, keys: Sequence[str], place: Place, *, run: str, model: str, settings: Settings
) -> Iterator[str]:
    yield f"apiVersion: {API_VERSION}"
    yield "kind: TrainingRun"
    yield "metadata:"
    yield f"  name: {_scalar(run)}"
    if place.cluster or place.namespace != "local":
        yield f"  namespace: {_scalar(place.namespace)}"
    yield "spec:"
    if place.profile != DEFAULT_REF:
        yield f"  profileRef: {{ name: {_scalar(place.profile)} }}"
    if place.object_store != DEFAULT_REF:
        yield f"  objectStoreRef: {{ name: {_scalar(place.object_store)} }}"
    yield "  datasets:"
    yield from (f"    - key: {_scalar(key)}" for key in keys)
    yield "  conversion:"
    yield "    ignore: [] # classes that you labelled and do not want"
    if look.split_by == SplitBy.HASH:
        yield "    split: { train: 80, validation: 20, test: 0 } # percent; a test part makes the figures honest"
    yield "  model:"
    yield _noted(f"    architecture: {settings.architecture}", _architecture_words(settings))
    yield _noted(f'    width: "{settings.width}"', '"1.0" finds more, "0.35" is faster')
    yield "  training:"
    yield _noted(f"    initFrom: {_start(settings)}", place.start_words)
    passes = settings.passes((look.split or {}).get("train", 0))
    yield _noted(f"    steps: {settings.steps}", f"each picture is seen about {passes} times")
    yield f"    batchSize: {settings.batch}"
    yield '  # quality: { minAP50: "0.6" } # below it nothing is published'
    yield "  publish:"
    yield _noted(f"    model: {_scalar(model)}", f"published as {model}-v1, {model}-v2, …")


def _architecture_words(settings: Settings) -> str:
    side = settings.architecture.side
    return f"sees {side}×{side} pixels" + ("" if side == 300 else "; ssd-mobilenet-v2-300 for Axon's own Pi script")


def _start(settings: Settings) -> str:
    if settings.start.type is InitFrom.RELEASE:
        return f"{{ type: release, releaseRef: {{ name: {settings.start.release} }} }}"
    return f"{{ type: {settings.start.type} }}"


def _noted(line: str, note: str) -> str:
    return f"{line} # {_plain(note)}"


def _scalar(text: str) -> str:
    """A YAML string: plain where nobody's YAML could take it for something else, else in JSON's quotes."""
    return text if _PLAIN.fullmatch(text) and text not in _WORDS else json.dumps(text)


def _plain(text: str) -> str:
    """Foreign text for a comment: one line, nothing that a terminal or YAML could act on."""
    one_line = " ".join(text.split())
    return "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in one_line)


def _wrapped(text: str) -> Iterator[str]:
    yield from textwrap.wrap(_plain(text), _WIDTH, break_long_words=True)
