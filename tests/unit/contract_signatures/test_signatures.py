"""Signing and checking manifests."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_contract.errors import IntegrityError, Reason, SpecError
from atoll_contract.signing import (
    PAYLOAD_TYPE,
    generate_key,
    key_id,
    payload_of,
    pre_authentication_encoding,
    sign,
    verify,
)

MANIFEST = b'{"model":"note","version":3}'
KEY = generate_key()
OTHER = generate_key()


def test_the_encoding_is_that_of_the_dsse_specification() -> None:
    # The example of the protocol's text.
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pre_authentication_encoding("http://example.com/HelloWorld", b"hello world") == expected


def test_a_signature_holds_for_its_manifest_and_key() -> None:
    envelope = sign(MANIFEST, KEY.private_pem)
    assert verify(envelope, MANIFEST, [OTHER.public_pem, KEY.public_pem]) == KEY.key_id == key_id(KEY.public_pem)
    assert payload_of(envelope) == MANIFEST
    assert sign(MANIFEST, KEY.private_pem) == envelope


def test_the_signature_is_made_over_the_encoding_with_plain_ed25519() -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    document = json.loads(sign(MANIFEST, KEY.private_pem))
    message = pre_authentication_encoding(PAYLOAD_TYPE, MANIFEST)
    public = load_pem_public_key(KEY.public_pem)
    public.verify(base64.b64decode(document["signatures"][0]["sig"]), message)  # type: ignore[union-attr, call-arg]


def test_an_envelope_may_name_its_key_as_ssh_keygen_does() -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32))).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (signature,) = json.loads(sign(MANIFEST, private, openssh_fingerprint=True))["signatures"]
    # What `ssh-keygen -l` prints of this key.
    assert signature["keyid"] == "SHA256:lbmsoA0yIEcEiVDRnMWuzm+nV+3ZEEpVIURqFoeSspg"
    (other,) = json.loads(sign(MANIFEST, private))["signatures"]
    assert other["sig"] == signature["sig"]


@pytest.mark.parametrize(
    ("envelope", "manifest", "keys", "text"),
    [
        (sign(MANIFEST, KEY.private_pem), MANIFEST, [OTHER.public_pem], OTHER.key_id),
        (sign(MANIFEST, KEY.private_pem), MANIFEST, [], "trusted keys are none"),
        (sign(MANIFEST, KEY.private_pem), MANIFEST + b" ", [KEY.public_pem], "another manifest"),
        (b"", MANIFEST, [KEY.public_pem], "not a JSON document"),
        (b"[]", MANIFEST, [KEY.public_pem], "must be an object"),
        (b" " * (3 * 2**20), MANIFEST, [KEY.public_pem], "bytes, allowed are"),
        (
            sign(MANIFEST, KEY.private_pem).replace(b"vnd.atoll", b"vnd.other"),
            MANIFEST,
            [KEY.public_pem],
            "payload type",
        ),
    ],
)
def test_an_invalid_envelope_is_refused_with_the_reason(
    envelope: bytes, manifest: bytes, keys: list[bytes], text: str
) -> None:
    with pytest.raises(IntegrityError, match=text) as caught:
        verify(envelope, manifest, keys)
    assert caught.value.reason is Reason.SIGNATURE_INVALID


@given(place=st.integers(0), bit=st.integers(0, 7))
def test_no_flipped_bit_of_an_envelope_passes(place: int, bit: int) -> None:
    envelope = bytearray(sign(MANIFEST, KEY.private_pem))
    place %= len(envelope)
    envelope[place] ^= 1 << bit
    document = sign(MANIFEST, KEY.private_pem)
    try:
        verify(bytes(envelope), MANIFEST, [KEY.public_pem])
    except IntegrityError as error:
        assert error.reason is Reason.SIGNATURE_INVALID  # noqa: PT017 (most flips are refused; the rest is below)
    else:
        # The key id is a hint that nobody signs; base64 has spare bits in its last character.
        before, after = json.loads(document), json.loads(bytes(envelope))
        assert before["signatures"][0]["keyid"] != after["signatures"][0]["keyid"] or _same_bytes(before, after)


def _same_bytes(before: dict[str, object], after: dict[str, object]) -> bool:
    def decoded(document: dict[str, object]) -> tuple[bytes, bytes]:
        signatures = document["signatures"]
        assert isinstance(signatures, list)
        return base64.b64decode(str(document["payload"])), base64.b64decode(signatures[0]["sig"])

    return decoded(before) == decoded(after)


def test_other_keys_are_refused_by_name() -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    curve = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for pem in (b"", b"nonsense", curve, KEY.public_pem):
        with pytest.raises(SpecError, match="unencrypted Ed25519 private key"):
            sign(MANIFEST, pem)
    for pem in (b"", KEY.private_pem):
        with pytest.raises(SpecError, match="Ed25519 public key"):
            verify(sign(MANIFEST, KEY.private_pem), MANIFEST, [pem])
