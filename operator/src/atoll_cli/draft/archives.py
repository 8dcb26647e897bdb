"""The archives that a draft is for: files on this disk, or what was pushed into the store."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from atoll_cli.draft.draft import Stopwatch
from atoll_cli.draft.settings import Settings
from atoll_cli.tool import timed
from atoll_contract import keys
from atoll_contract.errors import DatasetError, Reason, SpecError
from atoll_contract.store.base import Store
from atoll_contract.tool_reports import LintReport, Timing

_NAMED = 10


@dataclass(frozen=True)
class Archive:
    """`path` is a file to look into, `key` where a run will read it. `stored`: the store has it there already."""

    path: Path
    key: str
    stored: bool


def found_archives(asked: Sequence[str], store: Store | None, namespace: str, *, scratch: Path) -> list[Archive]:
    """What the user named, or the only archive of the namespace; what lies in the store is fetched into `scratch`.
    Without a store (no keys are needed to draft a run) only files of this disk are found.

    Raises:
        DatasetError: DatasetNotFound, there is no such file or key.
        SpecError: nothing was named and the store holds several; or two have the same name.
    """
    if not asked and store is not None:
        return [_fetched(store, _only(store, namespace), scratch / "0")]
    found = [_archive(name, store, namespace, scratch / str(number)) for number, name in enumerate(asked)]
    twice = next((item.key for item in found if sum(item.key == other.key for other in found) > 1), None)
    if twice is not None:
        raise SpecError(f"two archives would both be {twice} in the store; rename one of them")
    return found


def _archive(name: str, store: Store | None, namespace: str, scratch: Path) -> Archive:
    path = Path(name)
    if path.is_file():
        key = keys.dataset(namespace, path.name)
        there = store.head(key) if store is not None else None
        return Archive(path, key, stored=there is not None and there.size == path.stat().st_size)
    if path.is_dir():
        raise DatasetError(Reason.DATASET_NOT_FOUND, f"{name} is a folder; pack it as a .tar")
    assert store is not None
    wanted = [item for item in (name, keys.dataset(namespace, name)) if _is_key(item)]
    key = next((item for item in wanted if store.head(item) is not None), "")
    if not key:
        raise DatasetError(
            Reason.DATASET_NOT_FOUND,
            f"there is no file {name} here, nor in {store.url} {_there(store, namespace)}",
        )
    return _fetched(store, key, scratch)


def _fetched(store: Store, key: str, scratch: Path) -> Archive:
    # The formats are told by the files within, the kind of archive by its first bytes; the name is for messages.
    scratch.mkdir(parents=True)
    path = scratch / key.rpartition("/")[2]
    store.download(key, path)
    return Archive(path, key, stored=True)


def _only(store: Store, namespace: str) -> str:
    found = _keys(store, namespace)
    if len(found) == 1:
        return found[0]
    raise SpecError(f"name an archive: in {store.url} {_there(store, namespace)}")


def _there(store: Store, namespace: str) -> str:
    found = _keys(store, namespace)
    if not found:
        return f"(there is none under {keys.datasets_prefix(namespace)}; see atoll push)"
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"(there are {', '.join(found[:_NAMED])}{more})"


def _keys(store: Store, namespace: str) -> list[str]:
    return [info.key for info in store.list(keys.datasets_prefix(namespace))]


def _is_key(text: str) -> bool:
    parts = text.split("/")
    return all(parts) and not {".", ".."} & set(parts)


def stopwatch_for(look: LintReport, *, told: Callable[[str], None] = lambda _: None) -> Stopwatch:
    """A stopwatch for what `look` has seen; `told` hears that it takes a moment."""

    def time(on_cpu: Settings, on_gpu: Settings) -> Timing:
        told("timing a few training steps on this machine (--no-timing leaves it out)")
        return timed(look, on_cpu.architecture, on_cpu=on_cpu.timed_as, on_gpu=on_gpu.timed_as, steps=on_cpu.steps)

    return time
