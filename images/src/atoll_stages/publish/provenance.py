"""Writes the provenance of a published version, and its model card, beside the manifest."""

import json
import logging
import platform
from typing import Any

from atoll_contract import __version__, keys
from atoll_contract.dataset import Dataset
from atoll_contract.document import DecodeError, from_json, to_json
from atoll_contract.errors import IntegrityError
from atoll_contract.model_card import model_card
from atoll_contract.provenance import PAYLOAD_TYPE, statement
from atoll_contract.release import Manifest, Role
from atoll_contract.signing import sign
from atoll_contract.stage import BuildInputs, Stage
from atoll_stages.publish.files import optional_artifact
from atoll_stages.runtime.context import StageContext

logger = logging.getLogger(__name__)


def write_provenance(
    context: StageContext, manifest: Manifest, inputs: BuildInputs | None, *, signing_key: bytes | None
) -> None:
    """Puts statement, envelope and card of the version that `manifest` has claimed, each unless it is there. The card
    is last. Older engines give no `inputs`, and their releases get none.

    Raises:
        IntegrityError: a document of an earlier stage is not what the contract says.
    """
    if inputs is None:
        return
    names = (manifest.namespace, manifest.model, manifest.version)
    if context.store.head(keys.model_card(*names)) is not None:
        return
    made = statement(manifest, inputs, dataset=_dataset(context), tools=_tools(context, manifest))
    data = to_json(made)
    context.store.put(keys.provenance(*names, signed=False), data)
    if signing_key is not None:
        envelope = sign(data, signing_key, payload_type=PAYLOAD_TYPE, openssh_fingerprint=True)
        context.store.put(keys.provenance(*names, signed=True), envelope)
    context.store.put(keys.model_card(*names), model_card(manifest, made).encode())


def _dataset(context: StageContext) -> Dataset | None:
    artifact = optional_artifact(context.input, Stage.CONVERT, "dataset")
    if artifact is None:
        return None
    path = context.fetch(artifact, context.work / "documents" / "dataset.json")
    try:
        return from_json(Dataset, path.read_bytes(), skip_unknown=True)
    except (DecodeError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{artifact.key}: {error}") from None


def _tools(context: StageContext, manifest: Manifest) -> dict[str, str]:
    """Versions of the programs that published and, as export wrote them into metrics.json, trained and exported."""
    tools = {"atoll": __version__, "python": platform.python_version()}
    metrics = manifest.file(Role.METRICS)
    if metrics is None:
        return tools
    try:
        found: Any = json.loads(context.store.get(metrics.key)).get("tools", {})
        return tools | {str(name): str(version) for name, version in found.items()}
    except (ValueError, AttributeError) as error:
        raise IntegrityError(f"{metrics.name}: it is no document with tools by name: {error}") from None
