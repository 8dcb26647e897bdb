"""The reports of a namespace's devices, read from the bucket: one list, and one read for each that changed."""

import itertools
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from atoll_contract import keys
from atoll_contract.errors import IntegrityError
from atoll_contract.manifest import DeviceReport
from atoll_contract.store import ObjectInfo, ObjectNotFound, Store
from atoll_operator.mirror.report_check import MAX_FOLLOWED, NAME, InvalidReport, read_report

logger = logging.getLogger(__name__)

MAX_REPORTS = 1000
MAX_REPORT_BYTES = 64 * 2**10


@dataclass(frozen=True)
class Seen:
    """What lies in the bucket of one device: a report, or the problem with it."""

    device: str
    model: str
    etag: str
    # Seconds since 1970, by the bucket's clock.
    modified_at: float
    report: DeviceReport | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Reports:
    """By device. `ignored` are keys that name no device; not `complete`: there are more than are read."""

    by_device: Mapping[str, Seen]
    ignored: tuple[str, ...] = ()
    complete: bool = True


class ReportReader:
    """Reads one store for one namespace and remembers what did not change."""

    def __init__(self, store: Store, namespace: str) -> None:
        self._store = store
        self._prefix = keys.device_reports_prefix(namespace)
        self._known: dict[str, Seen] = {}

    def read(self) -> Reports:
        """All that is there now. Raises StoreError."""
        found = list(itertools.islice(self._store.list(self._prefix), MAX_REPORTS + 1))
        infos, ignored = found[:MAX_REPORTS], []
        known: dict[str, Seen] = {}
        for info in infos:
            names = self._names(info.key)
            if names is None:
                ignored.append(info.key)
            elif (seen := self._seen(info, *names)) is not None:
                known[info.key] = seen
        self._known = known
        return Reports(_newest(known), tuple(ignored), complete=len(found) <= MAX_REPORTS)

    def _names(self, key: str) -> tuple[str, str] | None:
        """Model and device of a key."""
        model, _, file = key.removeprefix(self._prefix).partition("/")
        device = file.removesuffix(".json")
        named = NAME.fullmatch(model) and len(model) <= MAX_FOLLOWED and NAME.fullmatch(device)
        return (model, device) if named and device != file else None

    def _seen(self, info: ObjectInfo, model: str, device: str) -> Seen | None:
        known = self._known.get(info.key)
        if known is not None and (known.etag, known.modified_at) == (info.etag, info.modified_at or 0.0):
            return known
        report, problem = None, None
        try:
            report = self._report(info)
        except ObjectNotFound:
            # Removed since it was listed.
            return None
        except (InvalidReport, IntegrityError) as error:
            problem = f"the report {info.key} cannot be read: {error}"
            logger.warning("%s", problem)
        return Seen(device, model, info.etag, info.modified_at or 0.0, report, problem)

    def _report(self, info: ObjectInfo) -> DeviceReport:
        if info.size > MAX_REPORT_BYTES:
            raise InvalidReport(f"it has {info.size} bytes, allowed are {MAX_REPORT_BYTES}")
        return read_report(self._store.get(info.key, limit=MAX_REPORT_BYTES), info.key)


def _newest(known: Mapping[str, Seen]) -> dict[str, Seen]:
    """A device that follows another model now has left its report about the former one behind."""
    ordered = sorted(known.values(), key=lambda seen: seen.modified_at)
    return {seen.device: seen for seen in ordered}
