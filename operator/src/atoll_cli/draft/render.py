"""Renders the text of a run.yaml, with comments on the archives and on the reasons for the settings."""

import json
import re
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence

from atoll_cli.draft.settings import Settings
from atoll_cli.draft.targets import DEFAULT_REF, RunTarget
from atoll_cli.pages import with_links
from atoll_contract.convert_spec import SplitBy
from atoll_contract.images import Resize
from atoll_contract.recipe import describe
from atoll_contract.tool_reports import LintClass, LintReport
from atoll_contract.train_spec import InitFrom, Preset
from atoll_operator.api import API_VERSION

# A class with fewer boxes in the training split is hardly ever detected.
FEW_BOXES = 50
# A floor that only a training that went wrong, or a trial of a few steps, does not reach.
MIN_AP50 = "0.2"
_MAX_CLASSES = 40
_MAX_WARNINGS = 10
_WIDTH = 116
_PLAIN = re.compile(r"[a-z][a-z0-9-]*(/[A-Za-z0-9_.-]+)*/?")
# YAML 1.1 reads these as booleans and null.
_KEYWORDS = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null"})


def render(
    lint: LintReport,
    keys: Sequence[str],
    target: RunTarget,
    *,
    run: str,
    model: str,
    settings: Settings,
    notes: Sequence[str],
) -> str:
    """A TrainingRun as YAML. Text from the data set appears only in comments and in quotes. `notes` are further
    comments, each one or more lines."""
    comments = [f"# {line}".rstrip() for line in _comments(lint, keys, notes)]
    return "\n".join([*comments, *_object(lint, keys, target, run=run, model=model, settings=settings)]) + "\n"


def _comments(lint: LintReport, keys: Sequence[str], notes: Sequence[str]) -> Iterator[str]:
    names = ", ".join(key.rpartition("/")[2] or key for key in keys)
    negatives = f", {lint.negatives} pictures without objects" if lint.negatives else ""
    yield from _wrapped(f"{names}: {lint.message}{negatives}")
    yield ""
    yield from _table(lint)
    yield ""
    yield from _wrapped(_split_sentence(lint))
    for warning in lint.warnings[:_MAX_WARNINGS]:
        yield from _wrapped(with_links(f"warning: {warning}"))
    yield ""
    for note in notes:
        yield from _wrapped(note)


def _table(lint: LintReport) -> Iterator[str]:
    splits = list(lint.split or {})
    shown = lint.classes[:_MAX_CLASSES]
    width = max([5, *(len(_plain(item.name)) for item in shown)])
    yield f"{'boxes':<{width}}  " + "  ".join(f"{split:>10}" for split in splits)
    for item in shown:
        counts = "  ".join(f"{item.boxes.get(split, 0):>10}" for split in splits)
        yield f"{_plain(item.name):<{width}}  {counts}{_remark(item)}"
    if len(lint.classes) > len(shown):
        yield f"and {len(lint.classes) - len(shown)} classes more"


def _remark(item: LintClass) -> str:
    boxes = item.boxes.get("train", 0)
    remarks = [f"fewer than {FEW_BOXES} to learn from: label more, or ignore it"] if boxes < FEW_BOXES else []
    remarks += [f"{item.tiny} tiny"] if item.tiny else []
    return "  " + "; ".join(remarks) if remarks else ""


def _split_sentence(lint: LintReport) -> str:
    counts = ", ".join(f"{count} {split}" for split, count in (lint.split or {}).items())
    by = {
        SplitBy.TAGS: "by the export's own tags",
        SplitBy.DATASETS: "by the names of its data sets",
        SplitBy.HASH: "by chance, but the frames of one video stay together",
    }.get(SplitBy(lint.split_by), lint.split_by)
    return f"The pictures are split {by}: {counts}"


def _object(
    lint: LintReport, keys: Sequence[str], target: RunTarget, *, run: str, model: str, settings: Settings
) -> Iterator[str]:
    yield f"apiVersion: {API_VERSION}"
    yield "kind: TrainingRun"
    yield "metadata:"
    yield f"  name: {_scalar(run)}"
    if target.cluster or target.namespace != "local":
        yield f"  namespace: {_scalar(target.namespace)}"
    yield "spec:"
    if target.profile != DEFAULT_REF:
        yield f"  profileRef: {{ name: {_scalar(target.profile)} }}"
    if target.object_store != DEFAULT_REF:
        yield f"  objectStoreRef: {{ name: {_scalar(target.object_store)} }}"
    yield "  datasets:"
    yield from (f"    - key: {_scalar(key)}" for key in keys)
    yield "  conversion:"
    yield "    ignore: [] # classes that you labelled and do not want"
    if settings.max_invalid_percent is not None:
        yield _with_note(f'    maxInvalidPercent: "{settings.max_invalid_percent:g}"', "bad labels that are allowed")
    if lint.split_by == SplitBy.HASH:
        yield "    split: { train: 80, validation: 20, test: 0 } # percent; a test part makes the figures honest"
    yield "  model:"
    yield _with_note(f"    architecture: {settings.architecture}", _architecture_note(settings))
    yield _with_note(f'    width: "{settings.width}"', '"1.0" finds more, "0.35" is faster')
    if settings.initial_weights.resize is Resize.LETTERBOX:
        note = "as the release that training goes on from; squash stretches pictures"
        yield _with_note(f"    preprocessing: {{ resize: {Resize.LETTERBOX} }}", note)
    yield "  training:"
    yield _with_note(f"    initFrom: {_init_from(settings)}", target.weights_note)
    boxes = sum(item.boxes.get("train", 0) for item in lint.classes)
    chosen = describe(Preset.AUTO, settings.initial_weights.type, boxes=boxes)
    yield _with_note(f"    preset: {Preset.AUTO}", chosen)
    passes = settings.passes((lint.split or {}).get("train", 0))
    yield _with_note(f"    steps: {settings.steps}", f"each picture is seen about {passes} times")
    yield f"    batchSize: {settings.batch}"
    note = "a detector that finds less is not published; raise it for a robot that relies on it"
    yield _with_note(f'  quality: {{ minAP50: "{MIN_AP50}" }}', note)
    yield "  publish:"
    yield _with_note(f"    model: {_scalar(model)}", f"published as {model}-v1, {model}-v2, …")


def _architecture_note(settings: Settings) -> str:
    side = settings.architecture.side
    return f"sees {side}×{side} pixels" + ("" if side == 300 else "; ssd-mobilenet-v2-300 for Axon's own Pi script")


def _init_from(settings: Settings) -> str:
    if settings.initial_weights.type is InitFrom.RELEASE:
        return f"{{ type: release, releaseRef: {{ name: {settings.initial_weights.release} }} }}"
    return f"{{ type: {settings.initial_weights.type} }}"


def _with_note(line: str, note: str) -> str:
    return f"{line} # {_plain(note)}"


def _scalar(text: str) -> str:
    """A YAML string: plain where every YAML parser reads it as a string, otherwise quoted as in JSON."""
    return text if _PLAIN.fullmatch(text) and text not in _KEYWORDS else json.dumps(text)


def _plain(text: str) -> str:
    """Text from the data set as one line of a comment, without characters that a terminal or YAML interprets."""
    one_line = " ".join(text.split())
    return "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in one_line)


def _wrapped(text: str) -> Iterator[str]:
    yield from textwrap.wrap(_plain(text), _WIDTH, break_long_words=True)
