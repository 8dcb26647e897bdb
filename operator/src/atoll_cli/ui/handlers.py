"""The handlers of the page's requests, and the addresses of the files that it offers for download."""

import re
import secrets
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll_cli.local.result import stage_output
from atoll_cli.local.runfile import InvalidFile
from atoll_cli.releases import Release, list_releases, read_manifest
from atoll_cli.ui.comparison import compare_figures, compare_on_same_images
from atoll_cli.ui.datasets import Archives, Readable, Workspace, archive_name, receive_upload, remove_upload
from atoll_cli.ui.drafts import Drafts, check_text
from atoll_cli.ui.logs import log_tail
from atoll_cli.ui.runs import LocalRun, details, find_run, list_runs, summary
from atoll_cli.ui.tasks import JsonObject, Notify, RunCommand, RunQueue, TaskQueue, atoll_run_command
from atoll_contract.errors import AtollError, SpecError
from atoll_contract.release import ManifestFile, Role
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Artifact
from atoll_operator.api.status import Phase

DOWNLOAD_PREFIX = "/files/"
LINK_SECONDS = 600.0
MAX_LINKS = 100
MAX_RELEASES = 100
# A bundle holds two models of some MB each; a report holds some images.
MAX_FILE_BYTES = 256 * 2**20
_HTML = "text/html; charset=utf-8"
_RUN_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
# The summary of a run that has no state yet.
_NO_STATE = {
    "message": "",
    "percent": 0,
    "ap50": "",
    "ended": False,
    "working": False,
    "report": False,
    "queuePosition": 0,
}


@dataclass(frozen=True)
class LinkedFile:
    """A file for download. `sandboxed`: whether it is a page, which the browser shows without running its scripts."""

    name: str
    media_type: str
    read: Callable[[], bytes]
    sandboxed: bool = False


class DownloadLinks:
    """Addresses that cannot be guessed, each valid for ten minutes: a browser tab that opens a file sends no token, so
    the address is one. `clock` is a parameter for tests."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._links: OrderedDict[str, tuple[float, LinkedFile]] = OrderedDict()

    def add(self, file: LinkedFile) -> str:
        """Return the path under which the file is served."""
        path = f"{DOWNLOAD_PREFIX}{secrets.token_urlsafe(24)}/{file.name}"
        with self._lock:
            self._links[path] = self._clock() + LINK_SECONDS, file
            while len(self._links) > MAX_LINKS:
                self._links.popitem(last=False)
        return path

    def find(self, path: str) -> LinkedFile | None:
        with self._lock:
            until, file = self._links.get(path, (0.0, None))
        return file if self._clock() < until else None


class Handlers:
    """The functions of the page for a folder of the local engine: first those for GET, then those for POST."""

    def __init__(self, workspace: Workspace, *, command: RunCommand = atoll_run_command) -> None:
        self._workspace = workspace
        self._archives = Archives(workspace)
        self._runs = RunQueue(workspace.folder, workspace.namespace, workspace.ui_folder / "runs", command=command)
        self._drafts = Drafts(workspace, self._archives)
        self._tasks = TaskQueue()
        # A timing takes minutes: other tasks do not wait for it.
        self._timings = TaskQueue()
        self.links = DownloadLinks()

    def close(self) -> str | None:
        """Suspend the running training and forget the queue; return the run's name."""
        self._drafts.skip()
        self._tasks.close()
        self._timings.close()
        return self._runs.close()

    def state(self) -> JsonObject:
        runs = [summary(run, self._runs) for run in list_runs(self._workspace.folder, self._workspace.namespace)]
        published, problem = self._releases()
        return {
            "store": _home_relative(self._workspace.folder),
            "archives": self._archives.summaries(),
            "runs": [*self._runs_without_state({item["name"] for item in runs}), *runs],
            "releases": [_release(item) for item in published],
            "problem": problem,
        }

    def run(self, name: str) -> JsonObject:
        return {**details(self._find_run(name), self._runs), "problem": self._runs.problems.get(name, "")}

    def log(self, name: str, stage: str) -> JsonObject:
        """The last lines of a stage's log."""
        return log_tail(self._find_run(name).folder, stage)

    def task(self, task: str) -> JsonObject:
        state = self._tasks.state(task) or self._timings.state(task)
        if state is None:
            raise SpecError("this was asked for too long ago; ask once more")
        return state

    def comparison(self, old: str, new: str) -> JsonObject:
        return compare_figures(self._workspace.store, self._workspace.namespace, old, new)

    def upload(self, name: str, stream: Readable, length: int) -> JsonObject:
        """Receive an archive; a task inspects and stores it."""
        path = receive_upload(stream, length, self._workspace.ui_folder / "uploads", archive_name(name))
        try:
            return self._tasks.start(lambda notify: self._archives.add(name, path, notify))
        except BaseException:
            remove_upload(path)
            raise

    def draft(self, request: JsonObject) -> JsonObject:
        """Draft a run.yaml from what is known already."""
        names, release = _draft_request(request)
        self._drafts.skip()
        return self._tasks.start(lambda notify: self._drafts.draft(names, release, notify))

    def time(self, request: JsonObject) -> JsonObject:
        """Time a few steps for such a draft."""
        names, release = _draft_request(request)
        busy = self._runs.running is not None
        return self._timings.start(lambda notify: self._drafts.time(names, release, busy=busy, notify=notify))

    def skip_timing(self) -> JsonObject:
        self._drafts.skip()
        return {}

    def check(self, request: JsonObject) -> JsonObject:
        """Validate a run.yaml as `atoll validate` does."""
        return check_text(_text(request))

    def start(self, request: JsonObject) -> JsonObject:
        # A timing beside a training would slow it down, and be wrong.
        self._drafts.skip()
        try:
            return {"run": self._runs.add(_text(request), exists=self._exists)}
        except InvalidFile as error:
            raise SpecError("\n".join(error.lines)) from None

    def compare(self, request: JsonObject) -> JsonObject:
        """Run both releases on the same images. The task's result has the address of a page that shows them."""
        old, new = str(request.get("old")), str(request.get("new"))
        page = self._workspace.ui_folder / "comparison.html"

        def work(notify: Notify) -> JsonObject:
            notify(f"running {old} and {new} on the same pictures")
            document = compare_on_same_images(self._workspace.folder, self._workspace.namespace, old, new, page)
            data = page.read_bytes()
            return {**document, "path": self.links.add(LinkedFile(page.name, _HTML, lambda: data, sandboxed=True))}

        page.parent.mkdir(parents=True, exist_ok=True)
        return self._tasks.start(work)

    def act(self, name: str, action: str) -> JsonObject:
        """Suspend, resume or cancel a run."""
        if action == "suspend":
            self._runs.suspend(_require_run_name(name))
        elif action == "resume":
            self._runs.resume(_require_run_name(name))
        elif action == "cancel":
            self._cancel(name)
        else:
            raise SpecError(f"a run can be asked to suspend, resume or cancel, not to {action[:40]!r}")
        return {}

    def report(self, name: str) -> JsonObject:
        """The address of the run's report."""
        artifact = stage_output(self._find_run(name).status, Stage.EXPORT, "report")
        if artifact is None:
            raise SpecError(f"run {name} has no report yet; its export stage has not ended")
        return {"path": self.links.add(LinkedFile("report.html", _HTML, self._reader(artifact), sandboxed=True))}

    def bundle(self, release: str) -> JsonObject:
        """The address of the release's model.tar.gz."""
        file = read_manifest(self._workspace.store, self._workspace.namespace, release).file(Role.BUNDLE)
        if file is None:
            raise SpecError(f"release {release} has no bundle")
        return {"path": self.links.add(LinkedFile("model.tar.gz", file.media_type, self._reader(file)))}

    def _find_run(self, name: str) -> LocalRun:
        return find_run(self._workspace.folder, self._workspace.namespace, _require_run_name(name))

    def _exists(self, name: str) -> bool:
        return any(run.folder.name == name for run in list_runs(self._workspace.folder, self._workspace.namespace))

    def _cancel(self, name: str) -> None:
        run = self._find_run(name)
        if run.status.is_terminal:
            raise SpecError(f"run {name} has ended already: {run.status.phase}")
        run.folder.cancel_request.touch()
        at_work = self._runs.running == name and not self._runs.was_interrupted(name)
        if not at_work and (not run.engine or run.status.phase is Phase.SUSPENDED):
            # No engine reads the request: start one, which ends the run at once.
            self._runs.resume(name)

    def _reader(self, file: Artifact | ManifestFile) -> Callable[[], bytes]:
        def read() -> bytes:
            with tempfile.TemporaryDirectory(prefix="atoll-ui-") as folder:
                path = Path(folder) / "file"
                self._workspace.store.download(file.key, path, sha256=file.sha256)
                return path.read_bytes()

        if file.size > MAX_FILE_BYTES:
            raise SpecError(f"{file.name} has {file.size} bytes; atoll pull fetches it")
        return read

    def _releases(self) -> tuple[list[Release], str]:
        """The published releases. If a manifest cannot be read, the rest of the page still works and shows why."""
        try:
            return list_releases(self._workspace.store, self._workspace.namespace)[-MAX_RELEASES:], ""
        except AtollError as error:
            return [], error.message

    def _runs_without_state(self, known: set[str]) -> list[dict[str, Any]]:
        """Runs that wait, start, or failed to start, and of which the engine has no record yet."""
        running = self._runs.running
        found: list[dict[str, Any]] = [{"name": running, "state": "Starting"}] if running else []
        waiting = [name for name in self._runs.waiting if name not in known]
        found += [{"name": name, "state": "Queued", "queuePosition": n} for n, name in enumerate(waiting, start=1)]
        found += [{"name": n, "state": "Failed", "message": problem} for n, problem in self._runs.problems.items()]
        return [{**_NO_STATE, **item} for item in found if item["name"] not in known]


def _release(item: Release) -> dict[str, Any]:
    manifest = item.manifest
    int8 = manifest.metrics.get("int8")
    ap50 = int8.get("ap50") if isinstance(int8, dict) else None
    document = {
        "release": manifest.release,
        "run": manifest.run.name,
        "channels": list(item.channels),
        "ap50": ap50,
        "labels": list(manifest.labels),
        "tpu": manifest.edgetpu.compiled,
    }
    return {name: value for name, value in document.items() if value is not None}


def _home_relative(folder: Path) -> str:
    """The path with ~ for the home folder."""
    return f"~/{folder.relative_to(Path.home())}" if folder.is_relative_to(Path.home()) else str(folder)


def _draft_request(request: JsonObject) -> tuple[list[str], str | None]:
    """The archives, and the release to start from."""
    names = [archive_name(str(name)) for name in request.get("archives") or ()]
    return names, str(request["from"]) if request.get("from") else None


def _text(request: Mapping[str, Any]) -> str:
    text = request.get("text")
    if not isinstance(text, str):
        raise SpecError("the request has no text")
    return text


def _require_run_name(name: str) -> str:
    if not _RUN_NAME.fullmatch(name):
        raise SpecError(f"{name[:80]!r} is no name of a run")
    return name
