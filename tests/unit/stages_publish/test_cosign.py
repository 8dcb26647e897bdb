"""cosign verifies what a release says of its making, with the public key that `atoll keygen` wrote and no network."""

import base64
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from atoll_contract import keys
from atoll_contract.document import from_json
from atoll_contract.release import Manifest, Role
from atoll_contract.signing import generate_key
from atoll_contract.store import open_store
from atoll_contract.store_spec import StoreSpec, StoreType
from cluster.binaries import built
from support.provenance import given_run, published_statement

COSIGN = built("cosign")
pytestmark = [
    pytest.mark.skipif(COSIGN is None, reason="NOT RUN: cosign is not built here: make test-cosign"),
    # The program has 100 MB, which a busy machine reads slowly.
    pytest.mark.timeout(300),
]


@dataclass(frozen=True)
class Release:
    """A published release as somebody gets it: its model, the envelope, the statement in it, and the public key."""

    folder: Path
    model: Path
    key: Path
    envelope: dict[str, Any]
    statement: dict[str, Any]

    def verify(
        self, *, envelope: dict[str, Any] | None = None, model: Path | None = None, key: Path | None = None
    ) -> str:
        """What cosign says of the envelope in a bundle; empty if it accepts it."""
        document = self.envelope if envelope is None else envelope
        (hint,) = [item["keyid"] for item in document["signatures"]]
        # As docs/security.md wraps it.
        bundle = self.folder / "provenance.sigstore.json"
        bundle.write_text(
            json.dumps(
                {
                    "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                    "verificationMaterial": {"publicKey": {"hint": hint}},
                    "dsseEnvelope": document,
                }
            )
        )
        return self.cosign("--bundle", bundle, model=model, key=key)

    def cosign(
        self, *source: str | Path, model: Path | None = None, key: Path | None = None, kind: str = "slsaprovenance1"
    ) -> str:
        command: list[str | Path] = [str(COSIGN), "verify-blob-attestation", "--key", key or self.key, "--type", kind]
        command += ["--insecure-ignore-tlog", *source, model or self.model]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            env={"HOME": str(self.folder), "PATH": "/nowhere"},
        )
        assert (done.returncode == 0) is ("Verified OK" in done.stderr), done.stderr
        return "" if done.returncode == 0 else done.stderr


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    folder = tmp_path_factory.mktemp("release")
    spec = StoreSpec(StoreType.DIRECTORY, path=str(folder / "store"))
    store, pair = open_store(spec), generate_key()
    (folder / "key.pem").write_bytes(pair.private_pem)
    (folder / "key.pub").write_bytes(pair.public_pem)
    run = given_run(store, spec, signing_key_path=str(folder / "key.pem"))
    statement = published_statement(store, run, folder / "work")
    model = from_json(Manifest, store.get(keys.manifest("local", "note", 1))).file(Role.MODEL_INT8)
    assert model is not None
    (folder / model.name).write_bytes(store.get(model.key))
    envelope = json.loads(store.get(keys.provenance("local", "note", 1, signed=True)))
    (folder / "provenance.dsse.json").write_text(json.dumps(envelope))
    return Release(folder, folder / model.name, folder / "key.pub", envelope, statement)


def test_it_accepts_a_release_as_it_was_published(release: Release) -> None:
    assert release.verify() == ""


def test_it_accepts_the_envelope_without_a_bundle(release: Release) -> None:
    assert release.cosign("--signature", release.folder / "provenance.dsse.json") == ""


def test_it_refuses_another_key(release: Release) -> None:
    other = release.folder / "other.pub"
    other.write_bytes(generate_key().public_pem)
    assert "signature" in release.verify(key=other)


def test_it_refuses_a_changed_file(release: Release) -> None:
    data = bytearray(release.model.read_bytes())
    data[-1] ^= 1
    changed = release.folder / "changed.tflite"
    changed.write_bytes(data)
    assert "digest" in release.verify(model=changed)


def test_it_refuses_a_changed_predicate(release: Release) -> None:
    statement = json.loads(json.dumps(release.statement))
    statement["predicate"]["buildDefinition"]["externalParameters"]["spec"]["training"]["steps"] = 999_999
    payload = base64.b64encode(json.dumps(statement).encode()).decode()
    assert "signature" in release.verify(envelope={**release.envelope, "payload": payload})


def test_it_refuses_the_statement_as_one_of_another_type(release: Release) -> None:
    text = release.cosign("--signature", release.folder / "provenance.dsse.json", kind="spdx")
    assert "predicate type" in text or "predicateType" in text
