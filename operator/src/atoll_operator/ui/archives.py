"""The labelled archives of the store, what is in them, and the run.yaml for one or several."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll_contract import keys
from atoll_contract.codec import to_dict
from atoll_contract.errors import DatasetError, SpecError
from atoll_contract.lint import LintReport
from atoll_contract.reasons import Reason
from atoll_contract.store import Store
from atoll_contract.timing import Timing
from atoll_operator.draft.draft import Draft, drafted
from atoll_operator.draft.local_place import local_place
from atoll_operator.draft.settings import Settings
from atoll_operator.draft.stopwatch import stopwatch_for
from atoll_operator.local.tools import inspected
from atoll_operator.ui.errands import Document, Told
from atoll_operator.ui.uploads import dropped

MOST_LISTED = 200
BUSY = "a training is at work on this machine, which would be timed along with it"


@dataclass(frozen=True)
class Yard:
    """The folder of the local engine, which is the store too, and the namespace in it."""

    folder: Path
    store: Store
    namespace: str

    @property
    def own(self) -> Path:
        """The page's own files, beside the engine's."""
        return self.folder / ".atoll" / "ui"


class Archives:
    """What was looked into is kept until the program ends, and the timings with it."""

    def __init__(self, yard: Yard) -> None:
        self._yard = yard
        self._lock = threading.Lock()
        self._looks: dict[str, LintReport] = {}
        self._timings: dict[tuple[str, str], Timing] = {}

    def listed(self) -> list[dict[str, Any]]:
        """Every archive of the namespace, with what is known of it."""
        prefix = keys.datasets_prefix(self._yard.namespace)
        found = []
        for info in self._yard.store.list(prefix):
            look = self._looks.get(info.key)
            item = {"name": info.key.removeprefix(prefix), "bytes": info.size}
            found.append({**item, "look": _shown(look)} if look else item)
            if len(found) == MOST_LISTED:
                break
        return found

    def take(self, name: str, path: Path, told: Told) -> Document:
        """Look into an upload and put it into the store; `path` is gone afterwards.

        Raises:
            DatasetError: a run would refuse it, so it is not kept.
        """
        try:
            told(f"looking into {name}")
            look = _usable(inspected([path]), name)
            key = keys.dataset(self._yard.namespace, name)
            told(f"putting {name} into the store")
            self._yard.store.upload(key, path)
        finally:
            dropped(path)
        with self._lock:
            self._looks[key] = look
        return {"name": name, "look": _shown(look)}

    def look(self, names: Sequence[str], told: Told) -> LintReport:
        """What a run would make of these archives, taken together.

        Raises:
            DatasetError: one is not in the store, or a run would refuse them.
        """
        if not names:
            raise SpecError("choose an archive first")
        wanted = [keys.dataset(self._yard.namespace, name) for name in names]
        known = self._looks.get(wanted[0]) if len(wanted) == 1 else None
        if known is not None:
            return known
        told(f"looking into {', '.join(names)}")
        # The store is a folder: a run reads the same file.
        paths = [self._path(key, name) for key, name in zip(wanted, names, strict=True)]
        look = _usable(inspected(paths), ", ".join(names))
        if len(wanted) == 1:
            with self._lock:
                self._looks[wanted[0]] = look
        return look

    def draft(self, names: Sequence[str], release: str | None, *, busy: bool, told: Told) -> Document:
        """A run.yaml for these archives; `busy` machines are not timed."""
        look = self.look(names, told)
        place = local_place(self._yard.folder, self._yard.store, self._yard.namespace, release=release)

        def stopwatch(on_cpu: Settings, on_gpu: Settings) -> Timing:
            known = self._timings.get((on_cpu.timed_as, on_gpu.timed_as))
            if known is None and busy:
                raise SpecError(BUSY)
            told("timing a few training steps on this machine")
            timing = known or stopwatch_for(look)(on_cpu, on_gpu)
            self._timings[on_cpu.timed_as, on_gpu.timed_as] = timing
            return timing

        wanted = [keys.dataset(self._yard.namespace, name) for name in names]
        return {**_document(drafted(look, wanted, place, stopwatch=stopwatch)), "look": _shown(look)}

    def _path(self, key: str, name: str) -> Path:
        if self._yard.store.head(key) is None:
            raise DatasetError(Reason.DATASET_NOT_FOUND, f"there is no {name} in the store any more")
        return self._yard.folder / key


def _usable(look: LintReport, name: str) -> LintReport:
    if not look.ok:
        raise DatasetError(Reason(look.reason), look.fault_of(name))
    return look


def _document(draft: Draft) -> dict[str, Any]:
    document: dict[str, Any] = {"text": draft.text, "run": draft.run, "basis": draft.basis}
    return {**document, "seconds": draft.seconds} if draft.seconds is not None else document


def _shown(look: LintReport) -> dict[str, Any]:
    """The look without the paths of this machine and without the long list of problems."""
    shown: dict[str, Any] = to_dict(look)
    return {name: value for name, value in shown.items() if name not in ("path", "problems", "ok", "reason")}
