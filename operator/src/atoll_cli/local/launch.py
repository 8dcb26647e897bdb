"""Starts, resumes or recalls a run: what `atoll run` does between reading the file and showing the result."""

import hashlib
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from atoll_cli.local.engine import Audience, Engine, Surroundings
from atoll_cli.local.jobs import LocalJobs, StageCommand, own_python
from atoll_cli.local.result import fetch_files, result_document, write_result
from atoll_cli.local.runfile import RunFile
from atoll_cli.local.state import RunFolder, RunRecord, move_to_history, plain_copy, read_record, write_record
from atoll_cli.local.uploads import put_dataset, put_weights
from atoll_contract import keys
from atoll_contract.document import replace, to_json
from atoll_contract.errors import SpecError
from atoll_contract.keys import RunRef
from atoll_contract.release import ManifestRef
from atoll_contract.stage import InitFrom, Stage
from atoll_contract.store import open_store
from atoll_contract.store.base import ObjectNotFound, Store
from atoll_operator.api.status import Phase, RunStatus, read_status, rfc3339
from atoll_operator.jobs.stage_input import MountPaths, Work, spec_digest, stage_input, store_spec
from atoll_operator.lifecycle.inputs import profile_view
from atoll_operator.lifecycle.model import StageAttempt

logger = logging.getLogger(__name__)

# Secrets are the user's own environment here: S3 credentials come from boto3's chain, a CA from AWS_CA_BUNDLE.
LOCAL_PATHS = MountPaths(
    credentials=lambda _: None,
    ca=lambda _: None,
    signing=lambda ref: str(Path(ref.name) / ref.key),
)


@dataclass(frozen=True)
class Request:
    """What the user asked for. `store` is the folder of state and, without an ObjectStore, of everything."""

    file: RunFile
    store: Path
    data: tuple[Path, ...] = ()
    weights: tuple[Path, ...] = ()
    rerun: bool = False
    output: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """The end (or suspension) of a run. `document` is that of `--json`; `recalled`: it had ended before."""

    status: RunStatus
    document: Mapping[str, Any]
    folder: RunFolder
    recalled: bool = False


def launch(
    request: Request,
    *,
    audience: Audience,
    told: Callable[[str], None],
    started: Callable[[Engine], None] = lambda _: None,
    command: StageCommand = own_python,
) -> Outcome:
    """Run to the end, or go on where an earlier engine stopped, or recall a run that has ended.

    `started` gets the engine before it works, so that a signal handler can suspend it.

    Raises:
        SpecError: another engine has this run; or a run of this name exists with other settings or data.
        StoreError: the store cannot be reached.
    """
    file = request.file
    folder = RunFolder(request.store.resolve(), file.namespace, file.name)
    store = open_store(store_spec(file.own_store))
    work = _work(file, folder, store)
    with folder.locked():
        digests = _deposit(request, store, told)
        record = _record(request, folder, digests, told)
        status = read_status(record.status)
        if status is not None and status.phase in (Phase.SUCCEEDED, Phase.CANCELLED):
            return _outcome(request, folder, status, store, {}, recalled=True)
        engine = _engine(work, folder, record, store, audience=audience, command=command)
        started(engine)
        ended = engine.run()
        return _outcome(request, folder, ended, store, engine.seconds())


def _deposit(request: Request, store: Store, told: Callable[[str], None]) -> list[str]:
    for weights in request.weights:
        put_weights(store, weights, told)
    return [put_dataset(request.file, store, archive, told) for archive in request.data]


def _record(request: Request, folder: RunFolder, digests: list[str], told: Callable[[str], None]) -> RunRecord:
    """The record to go on with: that of an earlier engine, or a new one."""
    identity = _identity(request.file, digests)
    known = read_record(folder)
    if known is not None and request.rerun:
        move_to_history(folder, known)
        known = None
    if known is None:
        known = _new_record(request.file, identity)
        folder.cancel_request.unlink(missing_ok=True)
        write_record(folder, known)
        return known
    if known.identity != identity:
        raise SpecError(
            f"a run {folder.name} with other settings or data is in {folder.store} already; "
            "give this one another metadata.name, or start it anew with --rerun"
        )
    return _continued(request.file, folder, known, told)


def _continued(file: RunFile, folder: RunFolder, known: RunRecord, told: Callable[[str], None]) -> RunRecord:
    status = read_status(known.status)
    if status is not None and status.phase is Phase.FAILED:
        told(f"run {folder.name} failed before ({status.reason}); trying again from the stage that failed")
        retry = f"{rfc3339(datetime.now(UTC))}-{uuid.uuid4().hex[:6]}"
        known = replace(known, retry=retry, profile=plain_copy(file.profile_document))
    elif status is not None and not status.is_terminal:
        told(f"going on with run {folder.name}")
    # What may change on a run (suspend, cancel, policy) is taken from the file as it is now.
    metadata = known.document["metadata"]
    known = replace(known, document={**plain_copy(file.document), "metadata": metadata})
    write_record(folder, known)
    return known


def _new_record(file: RunFile, identity: str) -> RunRecord:
    uid = str(uuid.uuid4())
    created = rfc3339(datetime.now(UTC))
    metadata = {**file.document["metadata"], "uid": uid, "creationTimestamp": created, "generation": 1}
    return RunRecord(
        uid=uid,
        created=created,
        document={**plain_copy(file.document), "metadata": metadata},
        identity=identity,
        profile=plain_copy(file.profile_document),
    )


def _identity(file: RunFile, digests: list[str]) -> str:
    """Everything that the result depends on: the spec, where the store is, and the data that was handed in."""
    document = [spec_digest(file.document), [store_spec(item) for item in file.stores.values()], digests]
    return hashlib.sha256(to_json(document)).hexdigest()


def _work(file: RunFile, folder: RunFolder, store: Store) -> Work:
    """What the run's Jobs are made from. A run that no Job can be made for is refused here, before it begins."""
    work = Work(
        # The uid is the record's, which may not exist yet.
        run=RunRef(folder.namespace, folder.name, ""),
        spec=file.spec,
        profile=file.profile,
        stores=file.stores,
        labels=file.document["metadata"].get("labels") or {},
        start_release=start_release(file, store),
        provenance={"specDigest": spec_digest(file.document), "seed": str(file.spec.training.seed)},
        mount_paths=LOCAL_PATHS,
        store_is_lock=True,
    )
    for stage in (Stage.CONVERT, Stage.TRAIN):
        stage_input(work, StageAttempt(stage, 1, {}, active_deadline_seconds=1))
    return work


def start_release(file: RunFile, store: Store) -> ManifestRef | None:
    """The manifest of the release that training starts from; None where it starts from something else.

    Raises:
        SpecError: there is no such release in the store.
    """
    name = file.spec.training.init_from.release
    if file.spec.training.init_from.type is not InitFrom.RELEASE or name is None:
        return None
    model, _, version = name.rpartition("-v")
    if not model or not version.isdecimal():
        raise SpecError(f"spec.training.initFrom.releaseRef.name is {name!r}; a release is called <model>-v<N>")
    key = keys.manifest(file.namespace, model, int(version))
    try:
        data = store.get(key)
    except ObjectNotFound:
        raise SpecError(f"there is no release {name} in {store.url} to start from; see atoll releases") from None
    return ManifestRef(key, hashlib.sha256(data).hexdigest(), len(data))


def _engine(
    work: Work,
    folder: RunFolder,
    record: RunRecord,
    store: Store,
    *,
    audience: Audience,
    command: StageCommand,
) -> Engine:
    digest = "sha256:" + hashlib.sha256(to_json(record.profile)).hexdigest()
    name = work.spec.profile
    view = profile_view(name, work.profile, revision=f"local-{digest[7:17]}", digest=digest, gpu_offered=None)
    own = replace(work, run=replace(work.run, uid=record.uid))
    jobs = partial(_jobs, folder, record.uid, command)
    return Engine(folder, record, Surroundings(own, view, store), audience=audience, jobs=jobs)


def _jobs(folder: RunFolder, uid: str, command: StageCommand, changed: Callable[[bool], None]) -> LocalJobs:
    return LocalJobs(folder, run_uid=uid, changed=changed, command=command)


def _outcome(
    request: Request,
    folder: RunFolder,
    status: RunStatus,
    store: Store,
    seconds: Mapping[Stage, float],
    *,
    recalled: bool = False,
) -> Outcome:
    target = request.output or folder.results
    files = fetch_files(status, store, target)
    document = result_document(folder, status, files, seconds)
    if status.is_terminal:
        write_result(document, target)
    return Outcome(status, document, folder, recalled)
