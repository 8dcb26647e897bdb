"""Starts, continues or recalls a run, for `atoll run`."""

import hashlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from atoll_cli.local.engine import Engine, ReferencedObjects, RunObserver, SilentObserver
from atoll_cli.local.identity import changes, describe_changes, merged_inputs, read_inputs
from atoll_cli.local.jobs import StageCommand, with_own_python
from atoll_cli.local.result import RunResult, fetch_files, result_document, write_result
from atoll_cli.local.runfile import RunFile, recorded_run_file
from atoll_cli.local.state import RunFolder, RunRecord, move_to_history, read_record, write_record
from atoll_cli.local.uploads import Upload, dataset_upload, put_weights
from atoll_contract import keys
from atoll_contract.document import replace, rfc3339, to_dict, to_json
from atoll_contract.errors import SpecError
from atoll_contract.keys import RunRef
from atoll_contract.release import ManifestRef
from atoll_contract.stage import Stage
from atoll_contract.store import open_store
from atoll_contract.store.base import ObjectNotFound, Store
from atoll_contract.train_spec import InitFrom
from atoll_operator.api.status import Phase
from atoll_operator.api.status_codec import read_status
from atoll_operator.jobs.stage_input import MountPaths, Work, spec_digest, stage_input, store_spec
from atoll_operator.lifecycle.inputs import profile_view
from atoll_operator.lifecycle.model import PollIntervals, StageAttempt

# Stages have the user's own environment: S3 credentials come from boto3's chain, a CA from AWS_CA_BUNDLE.
LOCAL_PATHS = MountPaths(
    credentials=lambda _: None,
    ca=lambda _: None,
    signing=lambda ref: str(Path(ref.name) / ref.key),
)
# TensorFlow listens on 0.0.0.0 whatever address its cluster has, and takes no other.
OPEN_PORTS = (
    "warning: while several workers train, their ports are open on every interface of this machine, and TensorFlow "
    "carries out what anybody sends to them; use a network that you trust, or a firewall"
)


@dataclass(frozen=True)
class LaunchRequest:
    """The arguments of `atoll run`. `store` is the folder of the state and, without an ObjectStore, of everything.

    `command` is the line that starts this run, for messages. A failed run is tried again from the stage `retry_from`
    on, or from the one that failed.
    """

    file: RunFile
    store: Path
    data: tuple[Path, ...] = ()
    weights: tuple[Path, ...] = ()
    rerun: bool = False
    output: Path | None = None
    command: str = "atoll run -f FILE"
    retry_from: Stage | None = None
    # How often the status takes the newest progress; by default as on a cluster.
    poll: PollIntervals | None = None


def launch(
    request: LaunchRequest,
    *,
    observer: RunObserver,
    on_start: Callable[[Engine], None] = lambda _: None,
    command: StageCommand = with_own_python,
) -> RunResult:
    """Run to the end, continue where an earlier engine stopped, or recall a run that has ended.

    `on_start` is called with the engine before it begins, so that a signal handler can suspend it.

    Raises:
        SpecError: another engine works on this run, or a run of this name exists with other settings or data.
        StoreError: the store cannot be reached.
    """
    folder = RunFolder(request.store.resolve(), request.file.namespace, request.file.name)
    store = open_store(store_spec(request.file.own_store))
    work = _work(request.file, folder, store)
    with folder.locked():
        folder.suspend_request.unlink(missing_ok=True)
        record = _prepare(request, folder, store, observer)
        status = read_status(record.status)
        recalled = _is_recalled(record)
        seconds: Mapping[Stage, float] = {}
        if status is None or not recalled:
            refs = _refs(work, record, store)
            if work.spec.training.workers > 1:
                observer.say(OPEN_PORTS)
            engine = Engine(folder, record, refs, observer=observer, command=command, poll=request.poll)
            on_start(engine)
            status = engine.run()
            folder.suspend_request.unlink(missing_ok=True)
            seconds = engine.stage_seconds()
        target = request.output or folder.results
        document = result_document(folder, status, fetch_files(status, store, target), seconds)
        if status.is_terminal:
            write_result(document, target)
        return RunResult(status, document, folder, recalled)


def end_cancelled(folder: RunFolder) -> None:
    """End a run whose cancellation was requested while no engine worked on it.

    Raises:
        SpecError: an engine works on it now, or its record does not say in which store it is.
        IntegrityError: its record is damaged.
    """
    with folder.locked():
        record = read_record(folder)
        if record is None:
            return
        file = recorded_run_file(folder, record)
        store = open_store(store_spec(file.own_store))
        refs = _refs(_work(file, folder, store), record, store)
        Engine(folder, record, refs, observer=SilentObserver()).run()


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


def _work(file: RunFile, folder: RunFolder, store: Store) -> Work:
    """The input from which the run's Jobs are built; a run that no Job can be built for is refused before it begins."""
    work = Work(
        # The record has the uid; it may not exist yet.
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


def _prepare(request: LaunchRequest, folder: RunFolder, store: Store, observer: RunObserver) -> RunRecord:
    """Put the files of the command line into the store and write the record: that of an earlier engine, or a new one.
    A run that is refused leaves the store as it is."""
    with ExitStack() as packed:
        uploads = [packed.enter_context(dataset_upload(request.file, store, archive)) for archive in request.data]
        known, inputs = read_record(folder), read_inputs(request.file)
        if known is not None and not request.rerun:
            _require_same(known, request, inputs, uploads)
        for weights in request.weights:
            put_weights(store, weights, observer.say)
        for upload in uploads:
            upload.put(observer.say)
    if not all(upload.is_stored for upload in uploads):
        inputs = read_inputs(request.file)
    if known is not None and request.rerun:
        move_to_history(folder, known)
        known = None
    if known is None:
        known = _new_record(request.file, inputs)
        folder.cancel_request.unlink(missing_ok=True)
    else:
        known = _continued(request.file, known, observer)
        if request.retry_from is not None and known.retry is not None:
            known = replace(known, retry=f"{known.retry}:{request.retry_from}")
        if not _is_recalled(known):
            known = replace(known, inputs=merged_inputs(known.inputs, inputs, request.file), **_origin(request.file))
    write_record(folder, known)
    return known


def _require_same(
    known: RunRecord, request: LaunchRequest, inputs: Mapping[str, str], uploads: Sequence[Upload]
) -> None:
    """Raises SpecError if the known run had other settings or data."""
    if found := changes(known, request.file, inputs, uploads):
        raise SpecError(
            f"a run {request.file.name} with other settings or data is in {request.store.resolve()} already: "
            f"{describe_changes(found)}; {request.command} --rerun starts it anew, another metadata.name keeps both"
        )


def _continued(file: RunFile, known: RunRecord, observer: RunObserver) -> RunRecord:
    status = read_status(known.status)
    if status is not None and status.phase is Phase.FAILED:
        observer.say(f"run {file.name} failed before ({status.reason}); trying again from the stage that failed")
        retry = f"{rfc3339(datetime.now(UTC))}-{uuid.uuid4().hex[:6]}"
        known = replace(known, retry=retry, profile=to_dict(file.profile_document))
    elif status is not None and not status.is_terminal:
        observer.say(f"going on with run {file.name}")
    # What may change on a run (suspend, cancel, policy) comes from the file as it is now.
    return replace(known, document={**to_dict(file.document), "metadata": known.document["metadata"]})


def _new_record(file: RunFile, inputs: Mapping[str, str]) -> RunRecord:
    uid = str(uuid.uuid4())
    created = rfc3339(datetime.now(UTC))
    metadata = {**file.document["metadata"], "uid": uid, "creationTimestamp": created, "generation": 1}
    return RunRecord(
        uid=uid,
        created=created,
        document={**to_dict(file.document), "metadata": metadata},
        profile=to_dict(file.profile_document),
        inputs=inputs,
        **_origin(file),
    )


def _origin(file: RunFile) -> dict[str, Any]:
    """What `recorded_run_file` needs beside the run and its profile."""
    return {
        "stores": to_dict(file.store_documents),
        "signing_key": None if file.signing_key is None else str(file.signing_key),
    }


def _is_recalled(record: RunRecord) -> bool:
    """Whether the run has ended for good: its result is shown, and its record stays as it is."""
    status = read_status(record.status)
    return status is not None and status.phase in (Phase.SUCCEEDED, Phase.CANCELLED)


def _refs(work: Work, record: RunRecord, store: Store) -> ReferencedObjects:
    digest = "sha256:" + hashlib.sha256(to_json(record.profile)).hexdigest()
    revision = f"local-{digest[7:17]}"
    profile = profile_view(work.spec.profile, work.profile, revision=revision, digest=digest, gpu_offered=None)
    return ReferencedObjects(replace(work, run=replace(work.run, uid=record.uid)), profile, store)
