"""The page's drafts of run.yaml: written at once, timed afterwards, checked while they are edited."""

import threading
from collections.abc import Sequence
from typing import Any

from atoll_cli.draft.draft import Draft, benchmark_for, draft_run
from atoll_cli.draft.settings import Settings
from atoll_cli.draft.targets import local_target
from atoll_cli.ui.datasets import Archives, Workspace, lint_document
from atoll_cli.ui.tasks import JsonObject, Notify
from atoll_contract import keys
from atoll_contract.errors import SpecError
from atoll_contract.tool_reports import LintReport, Timing
from atoll_operator.api.manifests import read_text
from atoll_operator.api.yaml import YamlError

BUSY = "a training is at work on this machine, which would be timed along with it"
NOT_TIMED = "no run with these settings has ended here yet"
# What a request names in place of a release; no release is called so.
RANDOM = "random"
SKIPPED = "the timing was skipped"
TIMING = "timing a few training steps on this machine; this takes a minute or two"


class Drafts:
    """Drafts a run for archives of the store. Timings are kept until the program ends."""

    def __init__(self, workspace: Workspace, archives: Archives) -> None:
        self._workspace = workspace
        self._archives = archives
        self._timings: dict[tuple[str, str], Timing] = {}
        self._stop = threading.Event()

    def draft(self, names: Sequence[str], start: str | None, notify: Notify) -> JsonObject:
        """Draft a run.yaml, with an estimate where earlier runs or timings give one; `timed` says whether there is one.
        `start` is a release to go on from, RANDOM, or None for ImageNet weights.

        Raises:
            DatasetError: an archive is not in the store, or a run would refuse them.
            SpecError: no archive is named, there is no such release, or there are no ImageNet weights.
        """
        report = self._archives.inspect(names, notify)

        def known(on_cpu: Settings, on_gpu: Settings) -> Timing:
            timing = self._timings.get((on_cpu.benchmark_option, on_gpu.benchmark_option))
            if timing is None:
                raise SpecError(NOT_TIMED)
            return timing

        return {**self._document(names, start, report, known), "lint": lint_document(report)}

    def time(self, names: Sequence[str], start: str | None, *, busy: bool, notify: Notify) -> JsonObject:
        """The draft with the estimate of a benchmark, which `skip` ends early. A `busy` machine is not benchmarked.

        Raises: see `draft`.
        """
        report = self._archives.inspect(names, notify)
        stop = self._stop = threading.Event()

        def benchmark(on_cpu: Settings, on_gpu: Settings) -> Timing:
            if busy:
                raise SpecError(BUSY)
            notify(TIMING)
            try:
                timing = benchmark_for(report, stop=stop)(on_cpu, on_gpu)
            except SpecError:
                if stop.is_set():
                    raise SpecError(SKIPPED) from None
                raise
            self._timings[on_cpu.benchmark_option, on_gpu.benchmark_option] = timing
            return timing

        return self._document(names, start, report, benchmark)

    def skip(self) -> None:
        """End the benchmark that is at work."""
        self._stop.set()

    def _document(self, names: Sequence[str], start: str | None, report: LintReport, benchmark: Any) -> JsonObject:
        workspace = self._workspace
        random = start == RANDOM
        release = None if random else start
        target = local_target(workspace.folder, workspace.store, workspace.namespace, release=release, random=random)
        wanted = [keys.dataset(workspace.namespace, name) for name in names]
        return _draft_document(draft_run(report, wanted, target, benchmark=benchmark))


def check_text(text: str) -> JsonObject:
    """The problems of a run.yaml, as `atoll validate` finds them. A valid one has its `steps` too, and the `settings`
    that the time of a step depends on."""
    try:
        manifests = read_text(text, source="run.yaml")
    except YamlError as error:
        return {"problems": [f"run.yaml:{error.line}: {error.message}"]}
    problems = [str(problem) for manifest in manifests for problem in manifest.problems]
    run = next((item.value for item in manifests if item.kind == "TrainingRun"), None)
    if problems or run is None:
        return {"problems": problems}
    spec = run["spec"]
    model, training = spec["model"], spec["training"]
    settings = _settings(model["architecture"], float(model["width"]), training["batchSize"])
    return {"problems": [], "steps": training.get("steps"), "settings": settings}


def _draft_document(draft: Draft) -> JsonObject:
    chosen = draft.settings
    document = {
        "text": draft.text,
        "run": draft.run,
        "basis": draft.basis,
        "timed": draft.seconds is not None,
        "steps": chosen.steps,
        "settings": _settings(chosen.architecture, chosen.width, chosen.batch),
    }
    if draft.seconds is None:
        return document
    return {**document, "seconds": draft.seconds, "perStep": draft.per_step}


def _settings(architecture: str, width: float, batch: int) -> str:
    return f"{architecture} {width:g} {batch}"
