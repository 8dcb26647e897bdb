"""What users, stored data, charts and other processes depend on, against the files in `tests/golden/frozen`.

A change that only moves or renames code leaves every one of these files as it is. `make golden` writes them anew; read
the diff as a list of what breaks for somebody else. Lists come from the text of the sources where that is possible, so
that it does not matter in which module a name stands.
"""

import argparse
import ast
import dataclasses
import hashlib
import importlib.util
import json
import os
import re
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args, get_origin

import click
import prometheus_client
import pytest
import yaml
from msgspec.structs import fields

from atoll_cli.console import exit_status, reason_status
from atoll_cli.local.state import JobRecord, RunRecord
from atoll_cli.main import cli
from atoll_contract import keys
from atoll_contract.dataset import Dataset
from atoll_contract.detector_head import DetectorHead
from atoll_contract.document import Document, from_json, replace, to_dict, to_json
from atoll_contract.errors import ExitCode, Reason, exit_code, is_transient
from atoll_contract.harvest import HarvestNote
from atoll_contract.keys import RunRef, imagenet_names
from atoll_contract.release import Channel, DeviceReport, Manifest
from atoll_contract.signing import Envelope
from atoll_contract.stage import Stage, StageInput
from atoll_contract.stage_result import MARK, Progress, StageResult
from atoll_contract.store.s3_upload import UploadState
from atoll_contract.tool_reports import ComparisonJob, LintReport, Timing
from atoll_edge.cli import parser as edge_parser
from atoll_edge.config import EdgeConfig
from atoll_edge.models.release_state import DeviceState
from atoll_edge.prometheus import Metrics as EdgeMetrics
from atoll_edge.robot.seed_topics import Compatibility
from atoll_edge.robot.topics import SCHEMA, TRACK_SCHEMA, ExtraTopics, RobotTables
from atoll_edge.selftest import SelfTest
from atoll_edge.status import Status as EdgeStatus
from atoll_operator.api.status import Phase, RunStatus
from atoll_operator.controller.metrics import OperatorMetrics
from atoll_operator.controller.profile_snapshots import ProfileSnapshot
from atoll_operator.devices.metrics import DeviceMetrics
from atoll_operator.jobs.manifest import job_name
from atoll_operator.lifecycle.model import PodPhase, QueueView
from atoll_stages.export.edgetpu_mapping import MappingReport
from atoll_stages.train.history import History, Snapshot
from atoll_stages.train.initial_weights import ModelInfo
from support.run_simulation import PROFILE, RunSimulation, run_view

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden"
SOURCE_ROOTS = (ROOT / "operator/src", ROOT / "images/src", ROOT / "edge/src")
WRITE = os.environ.get("ATOLL_GOLDEN") == "write"
NOTE = "somebody else depends on this; see make golden"


def test_the_api_has_its_fields_defaults_and_rules() -> None:
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        frozen_list(f"crds/{path.stem}.txt", listed(yaml.safe_load(path.read_text(encoding="utf-8"))))


# The name of the file → the type. Each is stored somewhere, or goes from one process to another.
DOCUMENTS: dict[str, type[Any]] = {
    "stage-input": StageInput,
    "stage-result": StageResult,
    "progress": Progress,
    "dataset": Dataset,
    "manifest": Manifest,
    "detector": DetectorHead,
    "channel": Channel,
    "signature-envelope": Envelope,
    "device-report": DeviceReport,
    "harvest-note": HarvestNote,
    "lint-report": LintReport,
    "timing": Timing,
    "comparison-job": ComparisonJob,
    "upload-begun": UploadState,
    "run-status": RunStatus,
    "local-run": RunRecord,
    "local-job": JobRecord,
    "history": History,
    "checkpoint": Snapshot,
    "weights-attribute": ModelInfo,
    "edgetpu-report": MappingReport,
    "edge-config": EdgeConfig,
    "edge-state": DeviceState,
    "edge-status": EdgeStatus,
    "edge-selftest": SelfTest,
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_is_written_and_read_as_before(name: str) -> None:
    """`full` has every field; `short` has only what must be there, and `shortWithDefaults` is what is made of it."""
    cls = DOCUMENTS[name]
    path = GOLDEN / f"frozen/documents/{name}.json"
    if WRITE:
        full, short = to_dict(populated(cls)), shortest(cls)
        write(path, as_json({"full": full, "short": short, "shortWithDefaults": to_dict(decoded(cls, short))}))
    kept = json.loads(path.read_text(encoding="utf-8"))
    for given, written in (("full", "full"), ("short", "shortWithDefaults")):
        document = decoded(cls, kept[given])
        assert json.loads(to_json(document)) == kept[written], NOTE
        assert from_json(cls, to_json(document)) == document
        assert to_json(document) == compact(kept[written])
    assert json.loads(to_json(populated(cls))) == kept["full"], NOTE


def test_the_words_of_closed_sets_are_the_same() -> None:
    """Each line is one set; its order does not matter to anybody."""
    frozen_list("enums.txt", {", ".join(sorted(words)) for words in enums() if len(words) > 1})


def test_every_key_of_the_bucket_is_the_same() -> None:
    frozen_json("keys.json", bucket_keys())


def test_names_made_from_digests_are_the_same() -> None:
    snapshot = ProfileSnapshot("gpu", {"images": {"train": "registry.example/train@sha256:1"}, "maxConcurrentRuns": 1})
    uid = "7b1e0000-0000-4000-8000-000000000001"
    jobs = [job_name("note", uid, stage, 2) for stage in Stage]
    frozen_json("digests.json", {"jobs": jobs, "profile": snapshot.manifest(), "profileHash": snapshot.digest})


def test_the_names_of_the_environment_are_the_same() -> None:
    texts = [*sources(), *texts_below("charts", "edge/systemd"), *texts_of(ROOT.glob("images/*/Dockerfile"))]
    found = {name for text in texts for name in re.findall(r"\b(?:ATOLL|AWS|KUBE[A-Z]*)_[A-Z0-9_]+\b", text)}
    frozen_list("environment.txt", found)


def test_reasons_and_exit_codes_are_the_same() -> None:
    failed = RunStatus(phase=Phase.FAILED)
    frozen_json(
        "exit-codes.json",
        {
            "codes": {code.name: int(code) for code in ExitCode},
            "reasons": {str(reason): int(exit_code(reason)) for reason in Reason},
            "transient": [code for code in range(-15, 256) if is_transient(code)],
            "commandLineByReason": {str(reason): reason_status(reason) for reason in Reason},
            "commandLineByPhase": {str(phase): exit_status(replace(failed, phase=phase)) for phase in Phase},
            "progressMark": MARK,
        },
    )


def test_the_metrics_are_the_same() -> None:
    registries = {
        "operator": OperatorMetrics().registry,
        "devices": DeviceMetrics().registry,
        "edge": EdgeMetrics().registry,
    }
    lines = {f"{name}: {line}" for name, registry in registries.items() for line in collectors(registry)}
    frozen_list("metrics.txt", lines)


def test_the_golden_manifests_are_the_same() -> None:
    files = [*GOLDEN.glob("job-*.yaml"), GOLDEN / "rights.yaml"]
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}
    frozen_json("manifests.json", digests)


def test_labels_and_annotations_are_the_same() -> None:
    texts = [*sources(), *texts_below("charts", "crds", "edge/systemd")]
    frozen_list("labels.txt", {name for text in texts for name in re.findall(r"atoll\.dev/[a-z0-9-]+", text)})


def test_programs_are_started_by_the_same_names() -> None:
    started = re.compile(r"""(?:-m[\s"',-]+|^\s*- )(atoll_\w+(?:\.\w+)+)\b""", re.MULTILINE)
    files = [ROOT / "Makefile", *ROOT.glob("images/*/Dockerfile")]
    texts = [*texts_of(files), *texts_below("charts", "edge/systemd")]
    found = {name for text in texts for name in started.findall(text)}
    assert found <= PROGRAMS, "a chart, an image or the Makefile starts a program that is not listed here"
    for name in PROGRAMS:
        spec = importlib.util.find_spec(name)
        assert spec is not None, name
        if spec.submodule_search_locations is not None:
            assert importlib.util.find_spec(f"{name}.__main__"), f"python -m {name} starts nothing"
        else:
            assert spec.origin is not None
            assert "__main__" in Path(spec.origin).read_text(encoding="utf-8"), f"python -m {name} starts nothing"


# Started by images, charts, systemd, make and the command line.
PROGRAMS = {
    "atoll_operator.main",
    "atoll_cli.main",
    "atoll_operator.mirror",
    "atoll_stages.convert",
    "atoll_stages.train",
    "atoll_stages.export",
    "atoll_stages.compile",
    "atoll_stages.publish",
    "atoll_stages.compare",
    "atoll_stages.sample",
    "atoll_stages.store_check",
    "atoll_edge.cli",
    "atoll_edge.video",
    "atoll_edge.demo",
    "atoll_operator.api.reference",
}


def test_the_console_scripts_have_their_names_and_start_something() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["scripts"]) == {"atoll", "kubectl-atoll", "atoll-edge"}
    for target in project["scripts"].values():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_the_command_line_is_the_same() -> None:
    frozen_list("command-line-atoll.txt", options_of(cli, "atoll"), ordered=True)
    frozen_list("command-line-atoll-edge.txt", edge_options(edge_parser(), "atoll-edge"), ordered=True)


def test_every_program_takes_the_same_arguments() -> None:
    """Also those of `python -m`, which are made where they are used."""
    calls = (" ".join(strings(call)) for call in named_calls({"add_argument", "add_parser"}))
    frozen_list("arguments.txt", {line for line in calls if line})


def test_the_pages_have_the_same_addresses() -> None:
    servers = [text for text in sources() if "def do_GET" in text]
    frozen_list("addresses.txt", {address for text in servers for address in addresses(ast.parse(text))})


def test_the_robot_reads_the_same_topics() -> None:
    pytest.importorskip("wpiutil")
    tables: Any = Recorder()
    RobotTables(tables, "front", compatibility=Compatibility.AXON, extra=ExtraTopics(True, True))
    frozen_list("topics.txt", {*tables.made, f"struct Detection: {SCHEMA}", f"struct Track: {TRACK_SCHEMA}"})


# The states of a run.


def queued() -> RunSimulation:
    sim = RunSimulation(run=run_view(queue=QueueView(ahead=2, eta_seconds=900)))
    sim.settle()
    return sim


def invalid() -> RunSimulation:
    sim = RunSimulation(run=run_view(invalid="spec.training.hyperparameters: there is no setting 'speed'"))
    sim.settle()
    return sim


def training() -> RunSimulation:
    sim = RunSimulation()
    sim.to_stage(Stage.TRAIN)
    job = sim.start()
    sim.pass_time(60)
    sim.pod_of(job, progress=Progress(42.0, "training", 210, 500, 0.61, 0.7, None, 83.0))
    sim.settle()
    return sim


def retrying() -> RunSimulation:
    sim = RunSimulation()
    sim.to_stage(Stage.TRAIN)
    sim.start()
    sim.settle()
    sim.pass_time(30)
    sim.fail(Reason.STORAGE_THROTTLED)
    sim.settle()
    return sim


def out_of_memory() -> RunSimulation:
    sim = RunSimulation()
    sim.to_stage(Stage.TRAIN)
    sim.start()
    sim.settle()
    sim.pass_time(30)
    sim.fail(Reason.OUT_OF_MEMORY, code=137, message="", terminated_reason="OOMKilled")
    sim.settle()
    return sim


def without_image() -> RunSimulation:
    sim = RunSimulation()
    sim.settle()
    job = sim.active_job()
    assert job is not None
    sim.pod_of(job, waiting_reason="ImagePullBackOff", waiting_message="no such image")
    sim.settle()
    return sim


def suspended() -> RunSimulation:
    sim = training()
    sim.run = replace(sim.run, suspend=True, generation=2)
    sim.settle()
    return sim


def resumed() -> RunSimulation:
    sim = suspended()
    sim.pass_time(3600)
    sim.run = replace(sim.run, suspend=False, generation=3)
    sim.settle()
    return sim


def quality_gate() -> RunSimulation:
    sim = RunSimulation(run=run_view(quality_gated=True))
    sim.to_stage(Stage.EXPORT)
    sim.start()
    sim.pass_time(30)
    sim.fail(Reason.QUALITY_GATE_FAILED)
    sim.settle()
    return sim


def tried_again() -> RunSimulation:
    sim = quality_gate()
    sim.run = replace(sim.run, retry="2027-01-10T08:00:00Z")
    sim.settle()
    return sim


def cancelled() -> RunSimulation:
    sim = RunSimulation()
    sim.to_stage(Stage.CONVERT)
    job = sim.start()
    sim.pod_of(job, phase=PodPhase.RUNNING)
    sim.settle()
    sim.run = replace(sim.run, cancel=True, generation=2)
    sim.settle()
    return sim


def succeeded() -> RunSimulation:
    sim = RunSimulation()
    sim.finish()
    return sim


def succeeded_without_compiler() -> RunSimulation:
    sim = RunSimulation(run=run_view(profile=replace(PROFILE, has_compiler=False)))
    sim.finish()
    return sim


STATES: dict[str, Callable[[], RunSimulation]] = {
    "queued": queued,
    "invalid": invalid,
    "training": training,
    "retrying": retrying,
    "out-of-memory": out_of_memory,
    "without-image": without_image,
    "suspended": suspended,
    "resumed": resumed,
    "quality-gate": quality_gate,
    "tried-again": tried_again,
    "cancelled": cancelled,
    "succeeded": succeeded,
    "succeeded-without-compiler": succeeded_without_compiler,
}


@pytest.mark.parametrize("name", STATES)
def test_a_status_and_its_events_are_the_same(name: str) -> None:
    sim = STATES[name]()
    events = [dataclasses.asdict(event) for event in sim.events]
    frozen_json(f"statuses/{name}.json", {"status": sim.status, "events": events})


def test_the_reasons_of_events_are_the_same() -> None:
    """Of those states; the rest are reasons of the closed set."""
    frozen_list("events.txt", {f"{event.type} {event.reason}" for make in STATES.values() for event in make().events})


# Files.


def frozen_json(name: str, value: Any) -> None:
    path = GOLDEN / "frozen" / name
    if WRITE:
        write(path, as_json(value))
    assert json.loads(as_json(value)) == json.loads(path.read_text(encoding="utf-8")), NOTE


def frozen_list(name: str, lines: Iterable[str], *, ordered: bool = False) -> None:
    found = list(lines) if ordered else sorted(set(lines))
    path = GOLDEN / "frozen" / name
    if WRITE:
        write(path, "".join(f"{line}\n" for line in found))
    assert found == path.read_text(encoding="utf-8").splitlines(), NOTE


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def as_json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def compact(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def texts_of(paths: Iterable[Path]) -> list[str]:
    return [path.read_text(encoding="utf-8") for path in sorted(paths)]


def texts_below(*folders: str) -> list[str]:
    kinds = {".yaml", ".yml", ".tpl", ".py", ".sh", ".json", ".service", ".txt", ""}
    found = (path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in kinds)
    return texts_of(path for path in found if path.is_file() and "LICENSE" not in path.name)


def sources() -> list[str]:
    return texts_of(path for root in SOURCE_ROOTS for path in root.rglob("*.py"))


# CRDs.


def listed(definition: Mapping[str, Any]) -> Iterator[str]:
    """Every field with its bounds and rules, without descriptions, and all that the definition says beside."""
    spec = dict(definition["spec"])
    for version in spec.pop("versions"):
        rest = dict(version)
        schema = rest.pop("schema")["openAPIV3Schema"]
        columns = rest.pop("additionalPrinterColumns", [])
        yield f"version {as_line(rest)}"
        yield from (f"column {as_line({k: v for k, v in item.items() if k != 'description'})}" for item in columns)
        yield from fields_of(schema, "")
    yield f"{definition['metadata']['name']} {as_line(spec)}"


_INNER = ("properties", "items", "additionalProperties", "description", "x-kubernetes-validations")


def fields_of(schema: Any, where: str) -> Iterator[str]:
    if not isinstance(schema, dict):
        yield f"{where or '.'} {as_line(schema)}"
        return
    yield f"{where or '.'} {as_line({key: value for key, value in schema.items() if key not in _INNER})}"
    for rule in schema.get("x-kubernetes-validations", ()):
        yield f"{where or '.'} rule {as_line(rule)}"
    for name, inner in schema.get("properties", {}).items():
        yield from fields_of(inner, f"{where}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if key in schema:
            yield from fields_of(schema[key], where + mark)


def as_line(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


# Documents.


def decoded(cls: type[Any], document: Any) -> Any:
    return from_json(cls, json.dumps(document))


def populated(cls: type[Any]) -> Any:
    """A document whose every field has a value of its own."""
    return cls(**{field.name: value_of(field.type, field.name) for field in fields(cls)})


def shortest(cls: type[Any]) -> dict[str, Any]:
    """The JSON of the fields that have no default."""
    required = [field for field in fields(cls) if field.required]
    return {field.encode_name: short_value(field.type, field.name) for field in required}


def short_value(hint: Any, name: str) -> Any:
    kind = plain_kind(hint)
    origin = get_origin(kind)
    if origin is tuple:
        return [short_value(get_args(kind)[0], name)]
    if origin is not None and issubclass(origin, Mapping):
        return {"key": short_value(get_args(kind)[1], name)}
    if is_document(kind):
        return shortest(kind)
    return to_dict(value_of(kind, name))


def value_of(hint: Any, name: str) -> Any:
    kind = plain_kind(hint)
    origin = get_origin(kind)
    if origin is tuple:
        return (value_of(get_args(kind)[0], name),)
    if origin is not None and issubclass(origin, Mapping):
        return {"key": value_of(get_args(kind)[1], name)}
    if is_document(kind):
        return populated(kind)
    return scalar(kind, name)


def scalar(kind: Any, name: str) -> Any:
    number = sum(name.encode()) % 89 + 10
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return list(kind)[-1]
    return {int: number, float: number + 0.5, bool: True, str: f"a {name}"}.get(kind, {"inner": name})


def plain_kind(hint: Any) -> Any:
    """The hint without `| None`."""
    if get_origin(hint) in (typing.Union, types.UnionType):
        return next(arg for arg in get_args(hint) if arg is not type(None))
    return hint


def is_document(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Document)


# What the sources say.


def trees() -> Iterator[ast.Module]:
    return (ast.parse(text) for text in sources())


def enums() -> Iterator[list[str]]:
    """The values of each closed set of words."""
    for tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "StrEnum" for base in node.bases):
                values = [ast.literal_eval(item.value) for item in node.body if isinstance(item, ast.Assign)]
                yield [value for value in values if isinstance(value, str)]


def named_calls(names: set[str]) -> Iterator[ast.Call]:
    for tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in names:
                yield node


def strings(call: ast.Call) -> list[str]:
    return [item.value for item in call.args if isinstance(item, ast.Constant) and isinstance(item.value, str)]


def addresses(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"/[\w./-]*", node.value):
            yield node.value
        elif isinstance(node, ast.MatchSequence):
            parts = (ast.unparse(item) if isinstance(item, ast.MatchValue) else "*" for item in node.patterns)
            yield "/" + "/".join(part.strip("'") for part in parts)


def collectors(registry: prometheus_client.CollectorRegistry) -> Iterator[str]:
    for item in registry._collector_to_names:
        known: Any = item
        if not hasattr(known, "_labelnames"):
            # A collector of several families.
            yield from (f"{family.type} {family.name} labels=[] buckets=[]" for family in known.describe())
            continue
        labels, bounds = list(known._labelnames), list(getattr(known, "_upper_bounds", []))
        yield f"{known._type} {known._name} labels={labels} buckets={bounds}"


def bucket_keys() -> dict[str, Any]:
    """What each key is of → the key."""
    run, space, sha = RunRef("team-190", "note", "7b1e"), "team-190", "ab" * 32
    return {
        "archives": keys.datasets_prefix(space),
        "archive": keys.dataset(space, "reefscape.tar"),
        "start weights": keys.weights("mobilenet.h5"),
        "conversions": keys.cached_datasets_prefix(space),
        "conversion": keys.cached_dataset(space, sha),
        "runs": keys.runs_prefix(space),
        "run": keys.run_prefix(run),
        "stage": keys.stage_prefix(run, "train"),
        "attempt": keys.attempt_prefix(run, "train", attempt=2, pod_uid="f00d"),
        "checkpoints": keys.checkpoints_prefix(run),
        "conversion plan": keys.conversion_plan(run, 2),
        "conversion batches": keys.conversion_batches(run, sha),
        "logs": keys.logs_prefix(run, "train"),
        "log": keys.log_chunk(run, "train", attempt=2, pod_uid="f00d", number=3),
        "blobs": keys.BLOBS,
        "blob": keys.blob(sha),
        "models of all": keys.MODELS,
        "models": keys.models_prefix(space),
        "model": keys.model_prefix(space, "note"),
        "manifest": keys.manifest(space, "note", 4),
        "signature": keys.signature(space, "note", 4),
        "channel": keys.channel(space, "note", "stable"),
        "probe": keys.probe(space, "note", "0123"),
        "device's report": keys.device_report(space, "note", "pi-front"),
        "devices' reports": keys.device_reports_prefix(space),
        "harvests": keys.harvests_prefix(space),
        "harvest": keys.harvest_prefix(space, "pi-front"),
        "harvested picture": keys.harvested_image(space, "pi-front", sha),
        "harvested note": keys.harvested_note(space, "pi-front", sha),
        "a namespace's own": list(keys.own_prefixes(space)),
        "imagenet weights": {str(width): list(imagenet_names(width)) for width in (0.35, 0.5, 1.0)},
    }


def options_of(command: click.Command, way: str) -> Iterator[str]:
    context = click.Context(command, info_name=way)
    for item in command.params:
        names = " ".join([*item.opts, *item.secondary_opts])
        facts = {
            "kind": item.param_type_name,
            "type": item.type.name,
            "choices": [str(choice) for choice in getattr(item.type, "choices", ())],
            "bounds": [getattr(item.type, "min", None), getattr(item.type, "max", None)],
            "default": default_of(item, context),
            "required": item.required,
            "multiple": item.multiple,
            "nargs": item.nargs,
            "flag": bool(getattr(item, "is_flag", False)),
            "metavar": item.metavar,
        }
        yield f"{way}: {names} {as_line(facts)}"
    if isinstance(command, click.Group):
        for name in sorted(command.list_commands(context)):
            inner = command.get_command(context, name)
            assert inner is not None
            yield f"{way} {name}"
            yield from options_of(inner, f"{way} {name}")


def default_of(item: click.Parameter, context: click.Context) -> str | None:
    """As text; None also where click has a mark of its own for it."""
    value = item.get_default(context)
    return str(value) if isinstance(value, bool | int | float | str | Path) else None


def edge_options(program: argparse.ArgumentParser, way: str) -> Iterator[str]:
    for action in program._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield f"{way} {name}"
                yield from edge_options(inner, f"{way} {name}")
        else:
            choices = [str(item) for item in action.choices or ()]
            facts = {"nargs": action.nargs, "default": str(action.default), "choices": choices}
            yield f"{way}: {' '.join(action.option_strings) or action.dest} {as_line(facts)}"


class Recorder:
    """NetworkTables that only notes which topics are made, of what type."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __getattr__(self, kind: str) -> Callable[..., Any]:
        def make(name: str, *rest: Any, **options: Any) -> Any:
            shown = [item for item in rest if isinstance(item, bool | float)]
            self.made.append(f"{kind} {name} {shown or ''}{options or ''}".rstrip())
            return lambda: None

        return make
