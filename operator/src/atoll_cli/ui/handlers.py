"""What the page can ask for and do; the server only carries it."""

import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from atoll_cli.local.runfile import InvalidFile
from atoll_cli.releases import Release, releases
from atoll_cli.ui.comparison import compared, manifest_of, on_same_pictures
from atoll_cli.ui.datasets import Archives, Readable, Yard, archive_name, dropped, received
from atoll_cli.ui.download_links import Linked, Links
from atoll_cli.ui.runs import found_run, found_runs, line, view
from atoll_cli.ui.tasks import Document, Errands, RunCommand, RunQueue, Told, own_atoll
from atoll_contract.errors import AtollError, SpecError
from atoll_contract.release import ManifestFile, Role
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Artifact
from atoll_operator.api.manifests import read_text
from atoll_operator.api.yaml import YamlError

# A bundle holds two models of some MB each, a report some pictures.
MAX_FILE_BYTES = 256 * 2**20
MOST_RELEASES = 100
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
# Of a run that has left no state so far.
_NOTHING_YET = {
    "message": "",
    "percent": 0,
    "ap50": "",
    "release": "",
    "ended": False,
    "working": False,
    "report": False,
}


class Site:
    """The page's functions over one folder of the local engine."""

    def __init__(self, yard: Yard, *, command: RunCommand = own_atoll) -> None:
        self._yard = yard
        self._archives = Archives(yard)
        self._queue = RunQueue(yard.folder, yard.namespace, yard.own / "runs", command=command)
        self._errands = Errands()
        self.links = Links()

    def close(self) -> str | None:
        """Suspend the run that works, and forget what waits; the run's name."""
        self._errands.close()
        return self._queue.close()

    # What GET asks for, by path.

    def state(self) -> Document:
        runs = [line(run, self._queue) for run in found_runs(self._yard.folder, self._yard.namespace)]
        published, problem = self._releases()
        return {
            "store": _at_home(self._yard.folder),
            "archives": self._archives.listed(),
            "runs": [*self._not_begun({item["name"] for item in runs}), *runs],
            "releases": [_release(item) for item in published],
            "problem": problem,
        }

    def run(self, name: str) -> Document:
        run = found_run(self._yard.folder, self._yard.namespace, _checked(name))
        return {**view(run, self._queue), "problem": self._queue.problems.get(name, "")}

    def errand(self, number: str) -> Document:
        found = self._errands.state(number)
        if found is None:
            raise SpecError("this was asked for too long ago; ask once more")
        return found

    def comparison(self, old: str, new: str) -> Document:
        return compared(self._yard.store, self._yard.namespace, old, new)

    # What POST does, by path.

    def upload(self, name: str, stream: Readable, length: int) -> Document:
        """Receive an archive; looking into it goes on after the answer."""
        path = received(stream, length, self._yard.own / "uploads", archive_name(name))
        try:
            return self._errands.start(lambda told: self._archives.take(name, path, told))
        except BaseException:
            dropped(path)
            raise

    def draft(self, asked: Mapping[str, Any]) -> Document:
        names = [archive_name(str(name)) for name in asked.get("archives") or ()]
        release = str(asked["from"]) if asked.get("from") else None
        busy = self._queue.running is not None
        return self._errands.start(lambda told: self._archives.draft(names, release, busy=busy, told=told))

    def check(self, asked: Mapping[str, Any]) -> Document:
        """What `atoll validate` says of a text."""
        try:
            manifests = read_text(_text(asked), source="run.yaml")
        except YamlError as error:
            return {"problems": [f"run.yaml:{error.line}: {error.message}"]}
        return {"problems": [str(problem) for manifest in manifests for problem in manifest.problems]}

    def start(self, asked: Mapping[str, Any]) -> Document:
        try:
            return {"run": self._queue.add(_text(asked), taken=self._known)}
        except InvalidFile as error:
            raise SpecError("\n".join(error.lines)) from None

    def compare(self, asked: Mapping[str, Any]) -> Document:
        """Run both releases on the same pictures; the answer has an address of the page with the pictures."""
        old, new = str(asked.get("old")), str(asked.get("new"))
        page = self._yard.own / "comparison.html"

        def work(told: Told) -> Document:
            told(f"running {old} and {new} on the same pictures")
            document = on_same_pictures(self._yard.folder, self._yard.namespace, old, new, page)
            data = page.read_bytes()
            linked = Linked("comparison.html", "text/html; charset=utf-8", lambda: data, sandboxed=True)
            return {**document, "path": self.links.add(linked)}

        page.parent.mkdir(parents=True, exist_ok=True)
        return self._errands.start(work)

    def act(self, name: str, action: str) -> Document:
        """Suspend, go on with or cancel a run."""
        if action == "suspend":
            self._queue.suspend(_checked(name))
        elif action == "resume":
            self._queue.again(_checked(name))
        elif action == "cancel":
            self._cancel(_checked(name))
        else:
            raise SpecError(f"a run can be asked to suspend, resume or cancel, not to {action[:40]!r}")
        return {}

    def report(self, name: str) -> Document:
        """An address of the run's report."""
        run = found_run(self._yard.folder, self._yard.namespace, _checked(name))
        artifact = run.artifact(Stage.EXPORT, "report")
        if artifact is None:
            raise SpecError(f"run {name} has no report yet; its export stage has not ended")
        linked = Linked("report.html", "text/html; charset=utf-8", self._reader(artifact), sandboxed=True)
        return {"path": self.links.add(linked)}

    def bundle(self, release: str) -> Document:
        """An address of the release's model.tar.gz."""
        file = manifest_of(self._yard.store, self._yard.namespace, release).file(Role.BUNDLE)
        if file is None:
            raise SpecError(f"release {release} has no bundle")
        return {"path": self.links.add(Linked("model.tar.gz", file.media_type, self._reader(file)))}

    def _reader(self, file: Artifact | ManifestFile) -> Callable[[], bytes]:
        def read() -> bytes:
            with tempfile.TemporaryDirectory(prefix="atoll-ui-") as folder:
                path = Path(folder) / "file"
                self._yard.store.download(file.key, path, sha256=file.sha256)
                return path.read_bytes()

        if file.size > MAX_FILE_BYTES:
            raise SpecError(f"{file.name} has {file.size} bytes; atoll pull fetches it")
        return read

    def _releases(self) -> tuple[list[Release], str]:
        """What is published; where a manifest cannot be read the rest of the page still works, and says so."""
        try:
            return releases(self._yard.store, self._yard.namespace)[-MOST_RELEASES:], ""
        except AtollError as error:
            return [], error.message

    def _not_begun(self, known: set[str]) -> list[dict[str, Any]]:
        """Runs that wait for their turn, or are being started, and are not on record yet."""
        waiting = [name for name in self._queue.waiting if name not in known]
        found = [{"name": name, "state": "Queued", "place": number + 1} for number, name in enumerate(waiting)]
        running = self._queue.running
        starting = [{"name": running, "state": "Starting", "place": 0}] if running and running not in known else []
        failed = [
            {"name": name, "state": "Failed", "place": 0, "message": problem}
            for name, problem in self._queue.problems.items()
            if name not in known
        ]
        return [{**_NOTHING_YET, **item} for item in (*starting, *found, *failed)]

    def _known(self, name: str) -> bool:
        return any(run.folder.name == name for run in found_runs(self._yard.folder, self._yard.namespace))

    def _cancel(self, name: str) -> None:
        run = found_run(self._yard.folder, self._yard.namespace, name)
        if run.status.is_terminal:
            raise SpecError(f"run {name} has ended already: {run.status.phase}")
        run.folder.cancel_request.touch()
        if not run.engine and self._queue.running != name:
            # No engine sees the request: the next one does, and ends at once.
            self._queue.again(name)


def _release(item: Release) -> dict[str, Any]:
    manifest = item.manifest
    int8 = manifest.metrics.get("int8")
    ap50 = int8.get("ap50") if isinstance(int8, dict) else None
    document = {
        "release": manifest.release,
        "run": manifest.run.name,
        "channels": list(item.channels),
        "ap50": ap50,
        "created": manifest.created_at,
        "labels": list(manifest.labels),
        "tpu": manifest.edgetpu.compiled,
    }
    return {name: value for name, value in document.items() if value is not None}


def _at_home(folder: Path) -> str:
    """The path as a shell shows it."""
    return f"~/{folder.relative_to(Path.home())}" if folder.is_relative_to(Path.home()) else str(folder)


def _text(asked: Mapping[str, Any]) -> str:
    text = asked.get("text")
    if not isinstance(text, str):
        raise SpecError("the request has no text")
    return text


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise SpecError(f"{name[:80]!r} is no name of a run")
    return name
