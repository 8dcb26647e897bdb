"""The handlers of the page's requests."""

import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from atoll_cli.local.result import stage_output
from atoll_cli.local.runfile import InvalidFile
from atoll_cli.releases import Release, list_releases, read_manifest
from atoll_cli.ui.comparison import compare_figures, compare_on_same_images
from atoll_cli.ui.datasets import (
    Archives,
    Readable,
    Workspace,
    archive_name,
    lint_document,
    receive_upload,
    remove_upload,
)
from atoll_cli.ui.deletion import delete_run
from atoll_cli.ui.drafts import Drafts, check_text
from atoll_cli.ui.links import DownloadLinks, LinkedFile
from atoll_cli.ui.logs import log_tail
from atoll_cli.ui.runs import LocalRun, details, find_run, list_runs, summary
from atoll_cli.ui.targets import release_targets
from atoll_cli.ui.tasks import JsonObject, Notify, RunCommand, RunQueue, TaskQueue, atoll_run_command
from atoll_cli.ui.trials import ImageDetector
from atoll_contract.errors import AtollError, SpecError
from atoll_contract.release import ManifestFile, Role
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Artifact
from atoll_operator.api.status import Phase

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
        self._detector = ImageDetector(workspace)
        self.links = DownloadLinks()

    def close(self) -> str | None:
        """Suspend the running training and forget the queue; return the run's name."""
        self._drafts.skip()
        self._detector.close()
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

    def images(self, archive: str, label: str, start: int) -> JsonObject:
        """Thumbnails of an archive with their boxes."""
        return self._archives.images(archive_name(archive), label, start)

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

    def inspect(self, name: str) -> JsonObject:
        """Look into an archive that was put into the store by other means."""
        names = [archive_name(name)]
        return self._tasks.start(lambda notify: {"lint": lint_document(self._archives.inspect(names, notify))})

    def draft(self, request: JsonObject) -> JsonObject:
        """Draft a run.yaml from what is known already."""
        names, start = _draft_request(request)
        self._drafts.skip()
        return self._tasks.start(lambda notify: self._drafts.draft(names, start, notify))

    def time(self, request: JsonObject) -> JsonObject:
        """Time a few steps for such a draft."""
        names, start = _draft_request(request)
        busy = self._runs.running is not None
        return self._timings.start(lambda notify: self._drafts.time(names, start, busy=busy, notify=notify))

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
        """Suspend, resume, cancel or delete a run."""
        if action == "suspend":
            self._suspend(_require_run_name(name))
        elif action == "resume":
            self._resume(_require_run_name(name))
        elif action == "cancel":
            self._cancel(name)
        elif action == "delete":
            self._delete(name)
        else:
            raise SpecError(f"a run can be asked to suspend, resume, cancel or delete, not to {action[:40]!r}")
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

    def detect(self, release: str, data: bytes) -> JsonObject:
        """What the int8 model of a release sees in an image file."""
        return self._detector.detect(release, data)

    def _find_run(self, name: str) -> LocalRun:
        return find_run(self._workspace.folder, self._workspace.namespace, _require_run_name(name))

    def _exists(self, name: str) -> bool:
        return any(run.folder.name == name for run in list_runs(self._workspace.folder, self._workspace.namespace))

    def _resume(self, name: str) -> None:
        # A run that could not begin has no state.
        item = next((item for item in self.state()["runs"] if item["name"] == name), None)
        self._runs.resume(name, at_rest=item is not None and item["state"] in ("Failed", "Suspended"))

    def _suspend(self, name: str) -> None:
        if name in self._runs.waiting or self._runs.running == name:
            self._runs.suspend(name)
            return
        run = self._find_run(name)
        if not run.engine:
            raise SpecError(f"run {name} is not at work")
        # Its engine was started in a terminal, and reads the request.
        run.folder.suspend_request.touch()

    def _cancel(self, name: str) -> None:
        run = self._find_run(name)
        if run.status.is_terminal:
            raise SpecError(f"run {name} has ended already: {run.status.phase}")
        run.folder.cancel_request.touch()
        at_work = self._runs.running == name and not self._runs.was_interrupted(name)
        if not at_work and (not run.engine or run.status.phase is Phase.SUSPENDED):
            # No engine reads the request: start one, which ends the run at once.
            self._runs.resume(name)

    def _delete(self, name: str) -> None:
        run = self._find_run(name)
        if name in self._runs.waiting or self._runs.running == name:
            raise SpecError(f"run {name} is at work or in the queue; wait for its end")
        delete_run(run, self._workspace.store, self._workspace.ui_folder / "runs")
        self._runs.forget(name)

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
        "targets": release_targets(manifest),
    }
    return {name: value for name, value in document.items() if value is not None}


def _home_relative(folder: Path) -> str:
    """The path with ~ for the home folder."""
    return f"~/{folder.relative_to(Path.home())}" if folder.is_relative_to(Path.home()) else str(folder)


def _draft_request(request: JsonObject) -> tuple[list[str], str | None]:
    """The archives, and what to start from."""
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
