"""The convert stage on a folder store, in this process or as its own, and what it left behind."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atoll_contract import keys
from atoll_contract.convert_spec import ConvertSpec, DatasetFormat, DatasetSource
from atoll_contract.dataset import Dataset
from atoll_contract.document import from_json, replace, to_json
from atoll_contract.errors import AtollError, Reason, exit_code
from atoll_contract.stage import ENV_INPUT, ENV_POD_UID, ENV_TERMINATION_LOG, ENV_WORK_DIR, Stage, StageInput
from atoll_contract.stage_result import StageResult, parse_result
from atoll_contract.store import open_store
from atoll_contract.store_spec import StoreSpec, StoreType
from atoll_stages.convert.stage import convert
from atoll_stages.runtime.context import StageContext

DEADLINE_SECONDS = 50


def totals(dataset: Dataset) -> Mapping[str, Mapping[str, int]]:
    """What became of the members, pictures and objects of a dataset of this version."""
    assert dataset.totals is not None
    return dataset.totals


@dataclass(frozen=True)
class Ended:
    """How the stage ended."""

    code: int
    result: StageResult
    output: str
    store: Path

    @property
    def reason(self) -> Reason:
        return self.result.reason

    @property
    def message(self) -> str:
        return self.result.message

    def dataset(self) -> Dataset:
        """The `dataset.json` of a stage that ended well."""
        return from_json(Dataset, (self.store / self.result.outputs[0].key).read_bytes())


@dataclass
class ConvertStage:
    """A folder store with archives in it, below `root`; everything else below `root` is outside for the stage."""

    root: Path
    runs: int = 0
    adopt_from: int | None = None
    sources: list[DatasetSource] = field(default_factory=list)
    others: int = 0
    shard_messages: list[str] = field(default_factory=list)
    # The store of another one; without it, its own.
    shared: Path | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    # What the run in this process has printed so far.
    output: io.StringIO = field(default_factory=io.StringIO)

    @property
    def store(self) -> Path:
        return self.shared or self.root / "store"

    def put(
        self, name: str, data: bytes, *, form: DatasetFormat = DatasetFormat.AUTO, digest: str | None = None
    ) -> "ConvertStage":
        """Put an archive into the store, and make it one of the run's datasets."""
        path = self.store / keys.datasets_prefix("team") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.sources.append(DatasetSource(keys.datasets_prefix("team") + name, form, digest))
        return self

    def run(self, **options: Any) -> Ended:
        """Do the stage's work in this process; `options` are fields of ConvertSpec. `others` of its
        shards are threads.

        Asserts what holds for every ending: an AtollError or an outcome, and nothing written outside the scratch
        folder and the store.
        """
        work, before = self._scratch(), _outside(self.root)
        document = self._document(options)
        self.output = io.StringIO()
        try:
            with contextlib.redirect_stdout(self.output):
                store = open_store(document.store)
                context = StageContext(document, store, work / "attempt", f"pod-{self.runs}", stop=self.stop)
                context.work.mkdir()
                with ThreadPoolExecutor(max(1, self.others)) as shards:
                    ends = [shards.submit(convert, self._shard(context, index)) for index in range(1, self.others + 1)]
                    outcome = convert(context)
                    self.shard_messages = [end.result(timeout=DEADLINE_SECONDS).message for end in ends]
            result = StageResult("convert", 1, outcome.reason, outcome.message, outcome.outputs, outcome.summary)
        except AtollError as error:
            result = StageResult("convert", 1, error.reason, error.message)
        finally:
            for folder in work.iterdir():
                shutil.rmtree(folder)
        assert _outside(self.root) == before
        return Ended(exit_code(result.reason), result, self.output.getvalue(), self.store)

    def _shard(self, context: StageContext, index: int) -> StageContext:
        work = context.work.parent / f"shard-{index}"
        work.mkdir()
        return replace(context, work=work, pod_uid=f"{context.pod_uid}-{index}", worker=index)

    def run_process(self, **options: Any) -> Ended:
        """The same as `python -m atoll_stages.convert`; asserts besides: a result, no traceback, an empty scratch."""
        work, before = self._scratch(), _outside(self.root)
        message = self.root / f"termination-{self.runs}"
        environment = {
            **os.environ,
            ENV_INPUT: to_json(self._document(options)).decode(),
            ENV_POD_UID: f"pod-{self.runs}",
            ENV_TERMINATION_LOG: str(message),
            ENV_WORK_DIR: str(work),
            "PYTHONSAFEPATH": "1",
        }
        done = subprocess.run(
            [sys.executable, "-P", "-m", "atoll_stages.convert"],
            env=environment,
            cwd=self.root,
            capture_output=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        output = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
        assert "Traceback" not in output, output
        assert list(work.iterdir()) == []
        assert _outside(self.root) - {message.name} == before
        return Ended(done.returncode, parse_result(message.read_bytes()), output, self.store)

    def _scratch(self) -> Path:
        self.runs += 1
        work = self.root / "scratch"
        work.mkdir(exist_ok=True)
        return work

    def _document(self, options: Mapping[str, Any]) -> StageInput:
        return StageInput(
            stage=Stage.CONVERT,
            attempt=1,
            run=keys.RunRef("team", "run", f"uid-{self.runs}"),
            store=StoreSpec(StoreType.DIRECTORY, path=str(self.store)),
            convert=ConvertSpec(sources=tuple(self.sources), **options),
            adopt_from=self.adopt_from,
        )


def _outside(root: Path) -> set[str]:
    """Everything below `root` but the store's content, by path."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if (root / "store") not in path.parents}
