"""One publication: what lies in the store afterwards, and what is refused."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from atoll_contract import keys
from atoll_contract.document import from_json, replace, to_json
from atoll_contract.errors import IntegrityError, Reason, SpecError
from atoll_contract.images import Resize
from atoll_contract.release import Channel, Manifest, Role, TargetResult
from atoll_contract.rollout import RolloutControl, RolloutPlan, RolloutState, RolloutStep
from atoll_contract.signing import generate_key, sign, verify
from atoll_contract.stage import Stage, StageInput
from atoll_contract.store import open_store
from atoll_contract.store.base import PreconditionFailed, Store, StoreError
from atoll_contract.store_spec import StoreSpec
from atoll_contract.tflite import PREPROCESSING_NAME
from atoll_stages.publish.files import optional_artifact
from atoll_stages.publish.stage import publish
from atoll_stages.runtime.context import Interrupted, StageContext
from support.interrupting_store import InterruptingStore
from support.minimal_tflite import minimal_tflite
from support.publishing import HEAD, exported_run, publish_once, with_version


@pytest.fixture
def store(folder_spec: StoreSpec) -> Store:
    return open_store(folder_spec)


def manifest_of(store: Store, version: int = 1) -> Manifest:
    return from_json(Manifest, store.get(keys.manifest("local", "note", version)))


def pointer_of(store: Store, channel: str = "stable") -> Channel:
    return from_json(Channel, store.get(keys.channel("local", "note", channel)))


def bundle_members(store: Store, manifest: Manifest) -> dict[str, bytes]:
    bundle = manifest.file(Role.BUNDLE)
    assert bundle is not None
    with tarfile.open(fileobj=io.BytesIO(store.get(bundle.key)), mode="r:gz") as archive:
        members = {item.name: archive.extractfile(item) for item in archive.getmembers()}
        return {name: stream.read() for name, stream in members.items() if stream is not None}


def test_a_release_is_published_whole(store_spec: StoreSpec, tmp_path: Path) -> None:
    store = open_store(store_spec)
    given = exported_run(store, store_spec, provenance={"seed": "0"})
    outcome = publish_once(given, store, tmp_path / "work")
    assert outcome.reason is Reason.COMPLETED
    manifest = manifest_of(store)
    assert (manifest.release, manifest.sequence, manifest.run) == ("note-v1", 1, given.run)
    assert (manifest.input.width, manifest.input.height, manifest.input.dtype) == (320, 320, "uint8")
    assert (manifest.labels, manifest.thresholds) == (("note", "robot"), (0.42, 0.5))
    assert manifest.metrics == {"float": {"ap50": 0.92, "ap": 0.61}, "int8": {"ap50": 0.9, "ap": 0.6}}
    assert manifest.provenance == {"seed": "0"}
    golden = manifest.file(Role.GOLDEN)
    assert golden is not None
    assert golden.expected is not None
    assert golden.expected[0].box == (0.1, 0.2, 0.4, 0.5)
    for file in manifest.files:
        data = store.get(file.key)
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (file.sha256, file.size)
        assert file.key == keys.blob(file.sha256)
    pointer = pointer_of(store)
    data = store.get(pointer.manifest.key)
    assert (pointer.version, pointer.manifest.sha256) == (1, hashlib.sha256(data).hexdigest())
    for output in outcome.outputs:
        assert hashlib.sha256(store.get(output.key)).hexdigest() == output.sha256
    assert {item.name for item in outcome.outputs} == {"manifest", "bundle", "channel"}


def test_without_a_real_compile_nothing_is_called_compiled(
    store: Store, folder_spec: StoreSpec, tmp_path: Path
) -> None:
    publish_once(exported_run(store, folder_spec), store, tmp_path / "work")
    manifest = manifest_of(store)
    assert not manifest.edgetpu.compiled
    assert manifest.edgetpu.predicted_mapped_percent == 98.5
    assert manifest.edgetpu.mapped_percent is None
    assert manifest.file(Role.MODEL_EDGETPU) is None
    assert set(bundle_members(store, manifest)) == {"unoptimized.tflite", "map.pbtxt"}


def test_a_compiled_model_is_in_manifest_and_bundle(store: Store, folder_spec: StoreSpec, tmp_path: Path) -> None:
    publish_once(exported_run(store, folder_spec, compiled=True), store, tmp_path / "work")
    manifest = manifest_of(store)
    assert (manifest.edgetpu.compiled, manifest.edgetpu.min_runtime_version) == (True, 14)
    assert (manifest.edgetpu.compiler_version, manifest.edgetpu.mapped_percent) == ("16.0.384591198", 97.6)
    compiled = manifest.file(Role.MODEL_EDGETPU)
    assert compiled is not None
    assert bundle_members(store, manifest)["model.tflite"] == store.get(compiled.key)


def test_files_of_other_targets_are_in_the_release_with_their_figures(
    store: Store, folder_spec: StoreSpec, tmp_path: Path
) -> None:
    publish_once(exported_run(store, folder_spec, compiled=True, targets=True), store, tmp_path / "work")
    manifest = manifest_of(store)
    assert manifest.targets_text == "edgetpu 98%, rknn 0.86, qnn not compiled"
    edgetpu, rknn, qnn = manifest.results
    assert (edgetpu.target, edgetpu.compiled, manifest.edgetpu.compiled) == ("edgetpu", True, True)
    assert rknn == TargetResult("rknn", True, "rk3566", "2.5.0", 98.2, 0.86, 0.5, "simulator")
    assert (qnn.compiled, qnn.reason) == (False, "CompilerUnavailable")
    (file,) = [item for item in manifest.files if item.role is Role.MODEL_COMPILED]
    assert (file.name, file.target) == ("model-rk3566.rknn", "rknn")
    assert store.get(file.key) == b"code of a Rockchip NPU"
    head = manifest.file(Role.DETECTOR)
    assert head is not None
    assert (head.name, head.media_type, store.get(head.key)) == ("detector.json", "application/json", HEAD)
    # Today's robot code takes the bundle apart: it holds what it held.
    assert set(bundle_members(store, manifest)) == {"unoptimized.tflite", "model.tflite", "map.pbtxt"}


def test_a_target_that_left_nothing_is_named_all_the_same(store: Store, folder_spec: StoreSpec, tmp_path: Path) -> None:
    publish_once(exported_run(store, folder_spec, targets=True), store, tmp_path / "work")
    assert manifest_of(store).targets_text == "edgetpu not compiled, rknn 0.86, qnn not compiled"


def test_a_manifest_for_the_edge_tpu_alone_is_as_before(store: Store, folder_spec: StoreSpec, tmp_path: Path) -> None:
    publish_once(exported_run(store, folder_spec, compiled=True), store, tmp_path / "work")
    manifest = manifest_of(store)
    written = json.loads(store.get(keys.manifest("local", "note", 1)))
    assert "targets" not in written
    assert not any("target" in file for file in written["files"])
    assert [(item.target, item.text) for item in manifest.results] == [("edgetpu", "98%")]
    assert manifest.targets_text == "98%"


def test_a_result_of_a_target_that_cannot_be_read_is_told(store: Store, folder_spec: StoreSpec, tmp_path: Path) -> None:
    given = exported_run(store, folder_spec, targets=True)
    artifact = optional_artifact(given, given.stage.COMPILE, "rknn.compilation")
    assert artifact is not None
    info = store.put(artifact.key, b'{"target": "rknn"}')
    false = replace(artifact, sha256=info.sha256 or "", size=info.size)
    given = replace(given, upstream={**given.upstream, "compile": (false,)})
    with pytest.raises(IntegrityError, match=r"compilation\.json is no result of a compile target"):
        publish_once(given, store, tmp_path / "work")


def test_a_file_that_only_claims_to_be_compiled_is_refused(
    store: Store, folder_spec: StoreSpec, tmp_path: Path
) -> None:
    given = exported_run(store, folder_spec, compiled=True)
    artifact = optional_artifact(given, given.stage.COMPILE, "compiled")
    assert artifact is not None
    info = store.put(artifact.key, minimal_tflite())
    false = replace(artifact, sha256=info.sha256 or "", size=info.size)
    given = replace(given, upstream={**given.upstream, "compile": (false,)})
    with pytest.raises(IntegrityError, match="does not hold compiled Edge TPU code"):
        publish_once(given, store, tmp_path / "work")
    assert list(store.list("models/")) == []


def test_the_bundle_is_the_same_bytes_every_time(store: Store, folder_spec: StoreSpec, tmp_path: Path) -> None:
    given = exported_run(store, folder_spec)
    publish_once(given, store, tmp_path / "one")
    publish_once(with_version(given, 2), store, tmp_path / "two")
    assert manifest_of(store, 1).file(Role.BUNDLE) == manifest_of(store, 2).file(Role.BUNDLE)


def test_publishing_again_changes_nothing(store: Store, folder_spec: StoreSpec, tmp_path: Path) -> None:
    given = exported_run(store, folder_spec)
    first = publish_once(given, store, tmp_path / "one")
    before = {item.key: item.etag for item in store.list("")}
    second = publish_once(given, store, tmp_path / "two")
    assert first == second
    assert {item.key: item.etag for item in store.list("")} == before


def test_the_version_of_another_run_is_left_and_the_next_free_one_named(
    store: Store, folder_spec: StoreSpec, tmp_path: Path
) -> None:
    publish_once(exported_run(store, folder_spec, uid="first"), store, tmp_path / "one")
    publish_once(exported_run(store, folder_spec, uid="later", version=7), store, tmp_path / "two")
    before = store.get(keys.manifest("local", "note", 1))
    outcome = publish_once(exported_run(store, folder_spec, uid="second"), store, tmp_path / "three")
    assert outcome.reason is Reason.VERSION_CONFLICT
    assert outcome.summary == {"release": "note-v1", "version": 1, "nextVersion": 8}
    assert store.get(keys.manifest("local", "note", 1)) == before
    assert pointer_of(store).version == 7


def test_the_same_run_with_other_files_does_not_rewrite_its_version(
    store: Store, folder_spec: StoreSpec, tmp_path: Path
) -> None:
    given = exported_run(store, folder_spec)
    publish_once(given, store, tmp_path / "one")
    compiled = exported_run(store, folder_spec, compiled=True)
    outcome = publish_once(compiled, store, tmp_path / "two")
    assert (outcome.reason, outcome.summary["nextVersion"]) == (Reason.VERSION_CONFLICT, 2)


def test_the_pointer_never_goes_back_and_each_channel_has_its_own(
    store: Store, folder_spec: StoreSpec, tmp_path: Path
) -> None:
    publish_once(exported_run(store, folder_spec, uid="five", version=5), store, tmp_path / "a")
    publish_once(exported_run(store, folder_spec, uid="beta", version=6, channel="beta"), store, tmp_path / "b")
    publish_once(exported_run(store, folder_spec, uid="three", version=3), store, tmp_path / "c")
    assert (pointer_of(store).version, pointer_of(store, "beta").version) == (5, 6)
    store.put(keys.channel("local", "note", "stable"), b"{ not json")
    publish_once(exported_run(store, folder_spec, uid="four", version=4), store, tmp_path / "d")
    assert pointer_of(store).version == 5


def test_a_signed_manifest_has_its_envelope(store: Store, folder_spec: StoreSpec, tmp_path: Path) -> None:
    key = generate_key()
    (tmp_path / "key.pem").write_bytes(key.private_pem)
    given = exported_run(store, folder_spec, signing_key_path=str(tmp_path / "key.pem"))
    publish_once(given, store, tmp_path / "work")
    envelope = store.get(keys.signature("local", "note", 1))
    assert verify(envelope, store.get(keys.manifest("local", "note", 1)), [key.public_pem]) == key.key_id


def test_an_envelope_of_a_foreign_key_or_run_is_not_taken_over(
    store: Store, folder_spec: StoreSpec, tmp_path: Path
) -> None:
    (tmp_path / "key.pem").write_bytes(generate_key().private_pem)
    given = exported_run(store, folder_spec, signing_key_path=str(tmp_path / "key.pem"))
    publish_once(with_version(given, 9), store, tmp_path / "pattern")
    forged = store.get(keys.manifest("local", "note", 9)).replace(b'"version":9', b'"version":1')
    store.put(keys.signature("local", "note", 1), sign(forged, generate_key().private_pem))
    outcome = publish_once(given, store, tmp_path / "work")
    assert (outcome.reason, outcome.summary["nextVersion"]) == (Reason.VERSION_CONFLICT, 10)
    store.put(keys.signature("local", "note", 2), b"garbage")
    assert publish_once(with_version(given, 2), store, tmp_path / "work2").reason is Reason.VERSION_CONFLICT


def test_a_missing_or_wrong_key_ends_before_anything_is_written(
    store: Store, folder_spec: StoreSpec, tmp_path: Path
) -> None:
    given = exported_run(store, folder_spec, signing_key_path=str(tmp_path / "none.pem"))
    with pytest.raises(SpecError, match=r"none\.pem"):
        publish_once(given, store, tmp_path / "work")
    (tmp_path / "none.pem").write_bytes(b"no key")
    with pytest.raises(SpecError, match="atoll keygen"):
        publish_once(given, store, tmp_path / "work")
    assert list(store.list("models/")) == []


def test_a_damaged_blob_is_written_anew(store: Store, folder_spec: StoreSpec, tmp_path: Path) -> None:
    given = exported_run(store, folder_spec)
    publish_once(given, store, tmp_path / "one")
    model = manifest_of(store).files[0]
    good = store.get(model.key)
    store.put(model.key, b"x" * len(good))
    publish_once(with_version(given, 2), store, tmp_path / "two")
    assert store.get(model.key) == good


def test_all_checkpoints_but_the_reported_one_go(store: Store, folder_spec: StoreSpec, tmp_path: Path) -> None:
    given = exported_run(store, folder_spec)
    publish_once(given, store, tmp_path / "work")
    left = [item.key for item in store.list(keys.checkpoints_prefix(given.run))]
    assert left == [given.upstream["train"][0].key]


def test_what_the_shards_of_the_conversion_exchanged_goes(store: Store, folder_spec: StoreSpec, tmp_path: Path) -> None:
    given = exported_run(store, folder_spec)
    other = replace(given.run, uid="another")
    for run in (given.run, other):
        store.put(keys.conversion_batches(run, "d1") + "00001.prepared", b"x")
    publish_once(given, store, tmp_path / "work")
    left = [item.key for run in (given.run, other) for item in store.list(keys.conversion_batches_prefix(run))]
    assert left == [keys.conversion_batches(other, "d1") + "00001.prepared"]


def test_a_store_that_does_not_keep_conditional_puts_is_refused_as_the_lock(
    store: Store, folder_spec: StoreSpec, tmp_path: Path
) -> None:
    class Careless(InterruptingStore):
        def put(self, key: str, data: bytes, **_: object) -> object:  # type: ignore[override]
            return super().put(key, data)

    careless = Careless(store)
    given = exported_run(store, folder_spec, store_is_lock=True)
    with pytest.raises(StoreError, match="32 were told that they had") as caught:
        publish_once(given, careless, tmp_path / "work")  # type: ignore[arg-type]
    assert caught.value.reason is Reason.STORE_UNSUITABLE
    assert list(store.list("models/")) == []
    # On a cluster the API server is the lock, and such a store will do.
    assert publish_once(exported_run(store, folder_spec), careless, tmp_path / "w2").reason is Reason.COMPLETED  # type: ignore[arg-type]


def test_a_store_that_only_checks_before_it_writes_is_found_out(store: Store) -> None:
    from atoll_contract.store.base import require_conditional_put

    class Racy(InterruptingStore):
        def put(self, key: str, data: bytes, *, if_absent: bool = False, **_: object) -> object:  # type: ignore[override]
            if if_absent and self.head(key) is not None:
                raise PreconditionFailed("taken")
            return super().put(key, data)

    with pytest.raises(StoreError, match="were told that they had"):
        require_conditional_put(Racy(store), namespace="local", model="note")  # type: ignore[arg-type]
    assert list(store.list("models/")) == []


def test_a_missing_artifact_is_named(store: Store, folder_spec: StoreSpec, tmp_path: Path) -> None:
    given = replace(exported_run(store, folder_spec), upstream={})
    with pytest.raises(SpecError, match="'model' of stage export"):
        publish_once(given, store, tmp_path / "work")


def test_documents_that_are_none_are_named(store: Store, folder_spec: StoreSpec, tmp_path: Path) -> None:
    given = exported_run(store, folder_spec)
    for name, data in (("golden", b'[{"name": 3}]'), ("metrics", b"{"), ("labels", b"item {")):
        artifacts = []
        for item in given.upstream["export"]:
            if item.name == name:
                info = store.put(item.key + ".bad", data)
                item = replace(item, key=info.key, sha256=info.sha256 or "", size=info.size)
            artifacts.append(item)
        broken = replace(given, upstream={**given.upstream, "export": tuple(artifacts)})
        with pytest.raises(IntegrityError):
            publish_once(broken, store, tmp_path / name)


def test_a_golden_picture_without_its_boxes_is_not_published(
    store: Store, folder_spec: StoreSpec, tmp_path: Path
) -> None:
    given = exported_run(store, folder_spec)
    export = tuple(
        replace(item, name="golden-0") if item.name == "golden-0.png" else item for item in given.upstream["export"]
    )
    with pytest.raises(IntegrityError, match=r"says nothing of golden-0; it has golden-0\.png"):
        publish_once(replace(given, upstream={**given.upstream, "export": export}), store, tmp_path / "work")
    assert list(store.list("models/")) == []


def adopting(given: StageInput) -> StageInput:
    assert given.publish is not None
    return replace(given, publish=replace(given.publish, adopt_only=True))


def test_O37_an_attempt_that_only_adopts_publishes_nothing(store_spec: StoreSpec, tmp_path: Path) -> None:
    store = open_store(store_spec)
    given = exported_run(store, store_spec)
    outcome = publish_once(adopting(given), store, tmp_path / "work")
    assert outcome.reason is Reason.CANCELLED
    assert "note-v1 is not published" in outcome.message
    assert list(store.list(keys.models_prefix("local"))) == []
    assert list(store.list(keys.BLOBS)) == []


def test_O37_it_completes_what_was_published_from_the_manifest_on(store_spec: StoreSpec, tmp_path: Path) -> None:
    store = open_store(store_spec)
    given = exported_run(store, store_spec)
    first = publish_once(given, store, tmp_path / "one")
    store.delete(keys.channel("local", "note", "stable"))
    outcome = publish_once(adopting(given), store, tmp_path / "two")
    assert (outcome.reason, outcome.outputs[:2]) == (Reason.COMPLETED, first.outputs[:2])
    assert pointer_of(store).version == 1


def test_O37_a_version_of_another_run_is_not_this_runs(store_spec: StoreSpec, tmp_path: Path) -> None:
    store = open_store(store_spec)
    publish_once(exported_run(store, store_spec, uid="other"), store, tmp_path / "one")
    given = exported_run(store, store_spec, uid="own")
    assert publish_once(adopting(given), store, tmp_path / "two").reason is Reason.CANCELLED


def test_O37_a_stage_that_is_asked_to_end_claims_no_version(store_spec: StoreSpec, tmp_path: Path) -> None:
    store = open_store(store_spec)
    context = StageContext(exported_run(store, store_spec), store, tmp_path)
    context.stop.set()
    with pytest.raises(Interrupted):
        publish(context)
    assert list(store.list(keys.models_prefix("local"))) == []


def test_a_roll_out_is_in_the_manifest_and_its_control_object_is_there_before_the_channel(
    store: Store, folder_spec: StoreSpec, tmp_path: Path
) -> None:
    plan = RolloutPlan((RolloutStep(10), RolloutStep(100, 3600)), halt_at=2)
    given = exported_run(store, folder_spec, rollout=plan)
    publish_once(given, store, tmp_path / "work")
    assert manifest_of(store).rollout == plan
    control = from_json(RolloutControl, store.get(keys.rollout("local", "note", 1)))
    assert (control.state, control.manifest_sha256) == (RolloutState.RUNNING, pointer_of(store).manifest.sha256)
    # A repeated attempt leaves what has been decided since.
    halted = replace(control, state=RolloutState.HALTED)
    store.put(keys.rollout("local", "note", 1), to_json(halted))
    publish_once(given, store, tmp_path / "again")
    assert from_json(RolloutControl, store.get(keys.rollout("local", "note", 1))) == halted


def test_the_widths_of_the_models_labels_are_in_the_manifest(
    store: Store, folder_spec: StoreSpec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = exported_run(store, folder_spec, object_widths={"robot": 0.9, "cone": 0.3})
    publish_once(given, store, tmp_path / "work")
    assert manifest_of(store).object_widths == {"robot": 0.9}
    assert "the model has no label ['cone']; it has ['note', 'robot']" in caplog.text


def test_without_widths_an_older_device_reads_the_manifest(
    store: Store, folder_spec: StoreSpec, tmp_path: Path
) -> None:
    publish_once(exported_run(store, folder_spec, object_widths={"cone": 0.3}), store, tmp_path / "work")
    assert b"objectWidths" not in store.get(keys.manifest("local", "note", 1))


def test_without_a_roll_out_nothing_of_one_is_written(store: Store, folder_spec: StoreSpec, tmp_path: Path) -> None:
    publish_once(exported_run(store, folder_spec), store, tmp_path / "work")
    assert b"rollout" not in store.get(keys.manifest("local", "note", 1))
    assert store.head(keys.rollout("local", "note", 1)) is None


@pytest.mark.parametrize(("text", "how"), [(None, Resize.SQUASH), (b'{"resize":"letterbox"}', Resize.LETTERBOX)])
def test_the_manifest_says_of_the_file_how_images_become_its_input(
    store: Store, folder_spec: StoreSpec, tmp_path: Path, text: bytes | None, how: Resize
) -> None:
    given = exported_run(store, folder_spec)
    data = minimal_tflite(metadata=None if text is None else {PREPROCESSING_NAME: text})
    model = next(item for item in given.upstream[Stage.EXPORT] if item.name == "model")
    stored = store.put(model.key, data)
    artifact = replace(model, sha256=stored.sha256 or "", size=stored.size)
    others = tuple(item for item in given.upstream[Stage.EXPORT] if item is not model)
    given = replace(given, upstream={**given.upstream, Stage.EXPORT: (artifact, *others)})
    publish_once(given, store, tmp_path / "work")
    manifest = manifest_of(store)
    assert manifest.resize is how
    # A release of a model that squashes is the document that older devices read.
    assert (manifest.preprocessing is None) == (how is Resize.SQUASH)
