"""Ed25519 signatures of manifests, detached in a DSSE envelope (github.com/secure-systems-lab/dsse, v1.0).

The pre-authentication encoding of payload type and payload is signed, not the JSON around them. An envelope contains
the payload, so that it can be checked offline against the manifest beside it.
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from atoll_contract.document import DecodeError, Document, from_json, to_json
from atoll_contract.errors import IntegrityError, Reason, SpecError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


PAYLOAD_TYPE = "application/vnd.atoll.manifest+json"
MAX_ENVELOPE_BYTES = 2 * 2**20
MAX_SIGNATURES = 16
KEY_ID_DIGITS = 16


@dataclass(frozen=True)
class KeyPair:
    """A new signing key: both keys as PEM, and the id by which envelopes name it."""

    private_pem: bytes
    public_pem: bytes
    key_id: str


class Signature(Document, frozen=True):
    keyid: str
    sig: str


class Envelope(Document, frozen=True):
    """A DSSE envelope; `payload` and the signatures are base64."""

    payload_type: str
    payload: str
    signatures: tuple[Signature, ...]


def generate_key() -> KeyPair:
    """A new Ed25519 key pair."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    return KeyPair(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        _key_id(key.public_key()),
    )


def sign(
    payload: bytes, private_pem: bytes, *, payload_type: str = PAYLOAD_TYPE, openssh_fingerprint: bool = False
) -> bytes:
    """Returns the envelope of `payload`, by default a manifest, with one signature.

    With `openssh_fingerprint` the envelope names the key as `ssh-keygen -l` does, as cosign asks of an envelope in a
    bundle.

    Raises:
        SpecError: the key is not an unencrypted Ed25519 private key in PEM.
    """
    key = _private_key(private_pem)
    signature = base64.b64encode(key.sign(pre_authentication_encoding(payload_type, payload))).decode()
    name = _openssh_fingerprint if openssh_fingerprint else _key_id
    signatures = (Signature(name(key.public_key()), signature),)
    return to_json(Envelope(payload_type, base64.b64encode(payload).decode(), signatures))


def verify(envelope: bytes, manifest: bytes, public_pems: Sequence[bytes]) -> str:
    """Checks that one of the keys signed exactly these bytes of a manifest; returns the id of that key.

    Raises:
        IntegrityError: `SignatureInvalid`: malformed, of another payload, or by none of the keys.
        SpecError: a key is not an Ed25519 public key in PEM.
    """
    opened = _open(envelope, PAYLOAD_TYPE)
    payload = _decoded(opened.payload, "payload")
    if payload != manifest:
        raise _invalid("the envelope signs another manifest than the one beside it")
    return _signer(opened, payload, public_pems)


def verified_payload(envelope: bytes, public_pems: Sequence[bytes], *, payload_type: str) -> bytes:
    """Returns what an envelope of `payload_type` contains, if one of the keys signed it. Raises as `verify` does."""
    opened = _open(envelope, payload_type)
    payload = _decoded(opened.payload, "payload")
    _signer(opened, payload, public_pems)
    return payload


def _signer(opened: Envelope, payload: bytes, public_pems: Sequence[bytes]) -> str:
    from cryptography.exceptions import InvalidSignature

    message = pre_authentication_encoding(opened.payload_type, payload)
    # The key id is not authenticated (DSSE §1): every key is tried.
    for key in [_public_key(pem) for pem in public_pems]:
        for signature in opened.signatures:
            try:
                key.verify(_decoded(signature.sig, "signature"), message)
            except InvalidSignature:
                continue
            return _key_id(key)
    named = ", ".join(item.keyid for item in opened.signatures) or "none"
    known = ", ".join(_key_id(_public_key(pem)) for pem in public_pems) or "none"
    raise _invalid(f"signed by {named}; trusted keys are {known}")


def payload_of(envelope: bytes) -> bytes:
    """The payload, unverified.

    Raises:
        IntegrityError: `SignatureInvalid`: not an envelope of a manifest.
    """
    return _decoded(_open(envelope, PAYLOAD_TYPE).payload, "payload")


def key_id(public_pem: bytes) -> str:
    """The first 16 hex digits of the sha256 of the raw public key. Raises SpecError."""
    return _key_id(_public_key(public_pem))


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed: DSSE's PAE."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _open(envelope: bytes, payload_type: str) -> Envelope:
    if len(envelope) > MAX_ENVELOPE_BYTES:
        raise _invalid(f"the envelope has {len(envelope)} bytes, allowed are {MAX_ENVELOPE_BYTES}")
    try:
        opened = from_json(Envelope, envelope)
    except DecodeError as error:
        raise _invalid(str(error)) from None
    if opened.payload_type != payload_type:
        raise _invalid(f"the payload type is {opened.payload_type!r}, expected {payload_type!r}")
    if len(opened.signatures) > MAX_SIGNATURES:
        raise _invalid(f"{len(opened.signatures)} signatures, allowed are {MAX_SIGNATURES}")
    return opened


def _decoded(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _invalid(f"the {what} is not base64") from None


def _invalid(detail: str) -> IntegrityError:
    return IntegrityError(f"the signature does not hold: {detail}", Reason.SIGNATURE_INVALID)


def _private_key(pem: bytes) -> "Ed25519PrivateKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SpecError(
            "the signing key must be an unencrypted Ed25519 private key in PEM, as `atoll keygen` writes it"
        )
    return key


def _public_key(pem: bytes) -> "Ed25519PublicKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise SpecError("a trusted key must be an Ed25519 public key in PEM, as `atoll keygen` writes it")
    return key


def _key_id(key: "Ed25519PublicKey") -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:KEY_ID_DIGITS]


def _openssh_fingerprint(key: "Ed25519PublicKey") -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    _, blob = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()
    digest = hashlib.sha256(base64.b64decode(blob)).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"
