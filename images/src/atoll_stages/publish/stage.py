"""The publish stage: makes the run's files a version of its model, and points the channel to it."""

import logging
from pathlib import Path

from atoll_contract.errors import Reason, SpecError
from atoll_contract.keys import checkpoints_prefix, conversion_batches_prefix
from atoll_contract.release import Role
from atoll_contract.stage import PublishSpec, Stage
from atoll_contract.stage_result import Artifact, Progress
from atoll_contract.store.base import StoreError, require_conditional_put
from atoll_stages.publish.channel import advance_channel
from atoll_stages.publish.files import fetch_files, put_blobs
from atoll_stages.publish.manifest import build_manifest
from atoll_stages.publish.provenance import write_provenance
from atoll_stages.publish.rollout import begin_rollout
from atoll_stages.publish.versions import Claim, VersionTaken, claim, find_claim, require_not_taken
from atoll_stages.runtime.context import StageContext, StageOutcome

logger = logging.getLogger(__name__)


def publish(context: StageContext) -> StageOutcome:
    """Publishes the run's model as the version that the engine reserved.

    Where the version is taken, the outcome is `VersionConflict` with `nextVersion` in its summary.

    Raises:
        SpecError: the input has no section `publish`, or the signing key cannot be read.
    """
    spec = context.input.publish
    if spec is None:
        raise SpecError("the stage's input has no section `publish`")
    if spec.adopt_only:
        return _adopt(context, spec)
    signing_key = _signing_key(spec)
    if spec.store_is_lock:
        require_conditional_put(context.store, namespace=context.input.run.namespace, model=spec.model)
    try:
        claimed = _claim_version(context, spec, signing_key)
    except VersionTaken as taken:
        summary = {
            "release": f"{spec.model}-v{spec.version}",
            "version": spec.version,
            "nextVersion": taken.next_version,
        }
        return StageOutcome(taken.message, (), summary, Reason.VERSION_CONFLICT)
    write_provenance(context, claimed.manifest, spec.inputs, signing_key=signing_key)
    begin_rollout(context.store, claimed)
    pointer = advance_channel(context.store, claimed.manifest)
    clean_up(context)
    return _outcome(claimed, pointer)


def _adopt(context: StageContext, spec: PublishSpec) -> StageOutcome:
    """Completes the publication of an earlier attempt, from its manifest on; the outcome is `Cancelled` without one."""
    claimed = find_claim(context.store, context.input.run, model=spec.model, version=spec.version)
    if claimed is None:
        return StageOutcome(f"{spec.model}-v{spec.version} is not published", reason=Reason.CANCELLED)
    signing_key = _signing_key(spec)
    write_provenance(context, claimed.manifest, spec.inputs, signing_key=signing_key)
    begin_rollout(context.store, claimed)
    pointer = advance_channel(context.store, claimed.manifest)
    clean_up(context)
    return _outcome(claimed, pointer)


def _claim_version(context: StageContext, spec: PublishSpec, signing_key: bytes | None) -> Claim:
    require_not_taken(context.store, context.input.run, model=spec.model, version=spec.version)
    files = fetch_files(context)
    manifest = build_manifest(context, spec, files)
    context.report(Progress(20.0, f"{len(files)} files for {manifest.release}"))
    put_blobs(context.store, files, scratch=context.work)
    context.report(Progress(80.0, f"claiming {manifest.release}"))
    # The last moment: once the manifest is there, the version is published.
    context.check_stop()
    return claim(context.store, manifest, signing_key=signing_key, store_is_lock=spec.store_is_lock)


def clean_up(context: StageContext) -> int:
    """Deletes what the run needs no more: its checkpoints except those that train reported, and what the shards of its
    conversion exchanged. Returns how many objects were deleted.

    The stage does not fail where the store refuses that.
    """
    run = context.input.run
    kept = {artifact.key for artifact in context.input.upstream.get(Stage.TRAIN, ())}
    prefixes = [checkpoints_prefix(run)] if kept else []
    removed = 0
    try:
        for prefix in (*prefixes, conversion_batches_prefix(run)):
            for info in list(context.store.list(prefix)):
                if info.key not in kept:
                    context.store.delete(info.key)
                    removed += 1
    except StoreError as error:
        logger.warning("files of the run stay behind for `atoll prune`: %s", error)
    return removed


def _outcome(claimed: Claim, pointer: Artifact) -> StageOutcome:
    manifest, reference = claimed.manifest, claimed.reference
    bundle = manifest.file(Role.BUNDLE)
    assert bundle is not None
    outputs = (
        Artifact("manifest", reference.key, reference.sha256, reference.size),
        Artifact("bundle", bundle.key, bundle.sha256, bundle.size),
        pointer,
    )
    summary = {"release": manifest.release, "version": manifest.version, "manifest": reference}
    return StageOutcome(f"{manifest.release} is published to channel {manifest.channel}", outputs, summary)


def _signing_key(spec: PublishSpec) -> bytes | None:
    if spec.signing_key_path is None:
        return None
    try:
        return Path(spec.signing_key_path).read_bytes()
    except OSError as error:
        raise SpecError(f"cannot read the signing key {spec.signing_key_path}: {error.strerror}") from None
