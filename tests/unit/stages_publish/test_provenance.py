"""The provenance of a release: what its statement says, that others can verify it, and that every input is in it."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

from atoll_contract import keys
from atoll_contract.document import from_json, replace
from atoll_contract.images import Preprocessing, Resize
from atoll_contract.keys import RunRef
from atoll_contract.model_card import model_card
from atoll_contract.provenance import PAYLOAD_TYPE, PREDICATE_TYPE, STATEMENT_TYPE
from atoll_contract.release import Manifest
from atoll_contract.signing import generate_key
from atoll_contract.stage import PublishSpec, StageInput
from atoll_contract.store import open_store
from atoll_contract.store.base import Store
from atoll_contract.store_spec import StoreSpec
from atoll_contract.train_spec import InitFrom, StartWeights
from support.provenance import DATASET, DIGEST, INPUTS, given_run, published_statement
from support.publishing import METRICS, publish_once


@pytest.fixture
def store(folder_spec: StoreSpec) -> Store:
    return open_store(folder_spec)


def test_the_statement_names_every_file_and_every_input(store: Store, folder_spec: StoreSpec, tmp_path: Path) -> None:
    run = given_run(store, folder_spec, provenance={"seed": "0"})
    found = published_statement(store, run, tmp_path / "work")
    assert (found["_type"], found["predicateType"]) == (STATEMENT_TYPE, PREDICATE_TYPE)
    manifest = json.loads(store.get(keys.manifest("local", "note", 1)))
    assert {item["name"]: item["digest"]["sha256"] for item in found["subject"]} == {
        item["name"]: item["sha256"] for item in manifest["files"]
    }
    definition = found["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {"spec": INPUTS.spec}
    internal = definition["internalParameters"]
    assert internal["tools"].items() >= {("tensorflow", "2.21.0")}
    assert internal["tools"].keys() >= {"atoll", "python"}
    assert (internal["profileSha256"], internal["seed"]) == (DIGEST, "0")
    digest = {"sha256": DIGEST}
    assert definition["resolvedDependencies"] == [
        {"name": "dataset", "uri": "datasets/team/notes.tar", "digest": digest},
        {"name": "converted-dataset", "digest": digest},
        {
            "name": "start-weights",
            "annotations": {"type": "checkpoint"},
            "uri": "weights/start.h5",
            "digest": digest,
        },
        {"name": "image-convert", "uri": "registry.example/convert:1"},
        {"name": "image-train", "uri": "registry.example/train", "digest": digest},
    ]
    details = found["predicate"]["runDetails"]
    assert details["builder"]["id"].endswith(":operator")
    assert details["metadata"] == {"invocationId": "local/bccd/7b1e", "finishedOn": manifest["createdAt"]}
    (figures,) = details["byproducts"]
    assert figures["annotations"]["int8"] == {"ap50": 0.9, "ap": 0.6}
    assert figures["annotations"]["edgetpu"] == {"compiled": False, "predictedMappedPercent": 98.5}


def test_a_tool_of_others_verifies_the_envelope(store: Store, folder_spec: StoreSpec, tmp_path: Path) -> None:
    pair = generate_key()
    (tmp_path / "key.pem").write_bytes(pair.private_pem)
    run = given_run(store, folder_spec, signing_key_path=str(tmp_path / "key.pem"))
    statement = published_statement(store, run, tmp_path / "work")
    data = json.loads(store.get(keys.provenance("local", "note", 1, signed=True)))
    envelope = Envelope.from_dict(json.loads(json.dumps(data)))
    key = public_key(pair.public_pem, data["signatures"][0]["keyid"])
    assert list(envelope.verify([key], 1)) == [key.keyid]
    assert envelope.payload_type == PAYLOAD_TYPE
    assert json.loads(envelope.payload) == statement
    with pytest.raises(VerificationError):
        envelope.verify([public_key(generate_key().public_pem, key.keyid)], 1)
    changed = envelope.payload.replace(b"registry.example/train", b"registry.example/evil!")
    assert changed != envelope.payload
    with pytest.raises(VerificationError):
        Envelope.from_dict({**data, "payload": base64.b64encode(changed).decode()}).verify([key], 1)


def public_key(pem: bytes, key_id: str) -> SSlibKey:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    return SSlibKey.from_crypto(load_pem_public_key(pem), keyid=key_id)


def without_time_and_run(statement: dict[str, Any]) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(statement))
    metadata = copy["predicate"]["runDetails"].pop("metadata")
    assert metadata.keys() == {"invocationId", "finishedOn"}
    return copy


def test_two_runs_of_one_specification_differ_in_time_and_run_alone(
    store: Store, folder_spec: StoreSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = given_run(store, folder_spec)
    assert first.publish is not None
    one = published_statement(store, first, tmp_path / "one")
    monkeypatch.setattr("atoll_stages.publish.manifest.rfc3339", lambda: "2031-01-01T00:00:00Z")
    second = replace(first, run=RunRef("local", "bccd-2", "9c2f"), publish=replace(first.publish, version=2))
    two = published_statement(store, second, tmp_path / "two")
    assert one != two
    assert without_time_and_run(one) == without_time_and_run(two)


def of_publish(change: Callable[[PublishSpec], PublishSpec]) -> Callable[[StageInput], StageInput]:
    return lambda run: replace(run, publish=change(run.publish))  # type: ignore[arg-type]


def of_inputs(**changes: Any) -> Callable[[StageInput], StageInput]:
    return of_publish(lambda spec: replace(spec, inputs=replace(INPUTS, **changes)))


OTHER = "f" * 64
CHANGES: dict[str, tuple[dict[str, Any], Callable[[StageInput], StageInput]]] = {
    "a setting": ({}, of_inputs(spec={**INPUTS.spec, "training": {"steps": 1001}})),
    "an image": ({}, of_inputs(images={**INPUTS.images, "train": f"registry.example/train@sha256:{OTHER}"})),
    "the profile": ({}, of_inputs(profile_sha256=OTHER)),
    "the start weights": ({}, of_inputs(start_weights=StartWeights(InitFrom.CHECKPOINT, "weights/start.h5", OTHER))),
    "the seed": ({}, of_publish(lambda spec: replace(spec, provenance={"seed": "1"}))),
    "an archive": (
        {"dataset": replace(DATASET, sources=(replace(DATASET.sources[0], sha256=OTHER),))},
        lambda run: run,
    ),
    "the conversion": ({"dataset": replace(DATASET, digest=OTHER)}, lambda run: run),
    "a figure": ({"metrics": {**METRICS, "metrics": {"int8": {"ap50": 0.91}}}}, lambda run: run),
    "a tool": ({"tools": {"tensorflow": "2.22.0"}}, lambda run: run),
    "the model": ({"uid": "8d3a"}, lambda run: replace(run, run=RunRef("local", "bccd", "7b1e"))),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_of_any_input_changes_the_statement(
    store: Store, folder_spec: StoreSpec, tmp_path: Path, what: str
) -> None:
    made, change = CHANGES[what]
    before = published_statement(store, given_run(store, folder_spec), tmp_path / "one")
    run = change(given_run(store, folder_spec, **made))
    assert run.publish is not None
    after = published_statement(store, replace(run, publish=replace(run.publish, version=2)), tmp_path / "two")
    assert without_time_and_run(before) != without_time_and_run(after)


def test_the_card_shows_classes_figures_and_origin_and_no_markup_of_a_stranger(
    store: Store, folder_spec: StoreSpec, tmp_path: Path
) -> None:
    evil = replace(DATASET.sources[0], key="datasets/<script>|x\x1b[31m.tar")
    publish_once(given_run(store, folder_spec, dataset=replace(DATASET, sources=(evil,))), store, tmp_path / "work")
    card = store.get(keys.model_card("local", "note", 1)).decode()
    assert card.startswith("# note-v1\n")
    assert "| note | 0.42 |" in card
    assert "| int8 | ap50 | 0.9 |" in card
    assert "datasets/\\<script\\>\\|x\\\\x1b\\[31m.tar" in card
    assert "\x1b" not in card
    assert "tensorflow 2.21.0" in card
    assert "`resize: squash`" in card
    manifest = from_json(Manifest, store.get(keys.manifest("local", "note", 1)))
    letterboxed = replace(manifest, preprocessing=Preprocessing(Resize.LETTERBOX))
    statement = json.loads(store.get(keys.provenance("local", "note", 1, signed=False)))
    assert "`resize: letterbox`" in model_card(letterboxed, statement)


def test_a_repeated_attempt_leaves_the_provenance_as_it_is(
    store: Store, folder_spec: StoreSpec, tmp_path: Path
) -> None:
    run = given_run(store, folder_spec)
    before = published_statement(store, run, tmp_path / "one")
    card = store.get(keys.model_card("local", "note", 1))
    store.delete(keys.model_card("local", "note", 1))
    assert published_statement(store, run, tmp_path / "two") == before
    assert store.get(keys.model_card("local", "note", 1)) == card


def test_an_older_engine_gets_no_provenance(store: Store, folder_spec: StoreSpec, tmp_path: Path) -> None:
    publish_once(given_run(store, folder_spec, inputs=None), store, tmp_path / "work")
    assert store.head(keys.provenance("local", "note", 1, signed=False)) is None
    assert store.head(keys.manifest("local", "note", 1)) is not None
