"""How a release was made: an in-toto Statement v1 with SLSA provenance v1, beside its manifest.

The statement names every file of the release by its digest, and what they were made from. Whoever has the release's
public key can check it with any tool that reads DSSE envelopes; devices do not need it. Two runs of one specification
with the same inputs differ in `runDetails.metadata` alone, where their files are the same.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from atoll_contract import __version__
from atoll_contract.dataset import Dataset
from atoll_contract.document import to_dict
from atoll_contract.release import Manifest
from atoll_contract.stage import BuildInputs

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
# The payload type of an in-toto statement's DSSE envelope.
PAYLOAD_TYPE = "application/vnd.in-toto+json"
# Names, not addresses: what made the release, and what its parameters mean.
BUILD_TYPE = "tag:atoll.dev,2026:training-run:v1"
CLUSTER_BUILDER = "tag:atoll.dev,2026:operator"
LOCAL_BUILDER = "tag:atoll.dev,2026:local-engine"


def statement(
    manifest: Manifest, inputs: BuildInputs, *, dataset: Dataset | None, tools: Mapping[str, str]
) -> dict[str, Any]:
    """The statement about the files of `manifest`; `tools` are versions of the programs that made them, by name."""
    internal: dict[str, Any] = {"tools": dict(tools) | _compilers(manifest)}
    if inputs.profile_sha256 is not None:
        internal["profileSha256"] = inputs.profile_sha256
    internal |= manifest.provenance
    return {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": item.name, "digest": {"sha256": item.sha256}}
            for item in sorted(manifest.files, key=lambda item: item.name)
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"spec": to_dict(inputs.spec)},
                "internalParameters": internal,
                "resolvedDependencies": list(_dependencies(inputs, dataset)),
            },
            "runDetails": {
                "builder": {
                    "id": CLUSTER_BUILDER if inputs.images else LOCAL_BUILDER,
                    "version": {"atoll": __version__},
                },
                "metadata": {
                    "invocationId": f"{manifest.run.namespace}/{manifest.run.name}/{manifest.run.uid}",
                    "finishedOn": manifest.created_at,
                },
                "byproducts": [{"name": "figures", "annotations": _figures(manifest)}],
            },
        },
    }


def _compilers(manifest: Manifest) -> dict[str, str]:
    found = {f"{item.target}-compiler": item.compiler_version for item in manifest.results}
    return {name: version for name, version in found.items() if version is not None}


def _figures(manifest: Manifest) -> dict[str, Any]:
    """The measured figures, by what they are of: the float and the int8 model, and each compile target."""
    figures = dict(manifest.metrics)
    for item in manifest.results:
        figures[item.target] = {name: value for name, value in to_dict(item).items() if name != "target"}
    if manifest.edgetpu.predicted_mapped_percent is not None:
        predicted = {"predictedMappedPercent": manifest.edgetpu.predicted_mapped_percent}
        figures["edgetpu"] = figures.get("edgetpu", {}) | predicted
    return figures


def _dependencies(inputs: BuildInputs, dataset: Dataset | None) -> Iterable[dict[str, Any]]:
    """Resource descriptors of archives, converted data set, start weights and images."""
    if dataset is not None:
        for source in sorted(dataset.sources, key=lambda item: (item.key, item.sha256)):
            yield {"name": "dataset", "uri": source.key, "digest": {"sha256": source.sha256}}
        yield {"name": "converted-dataset", "digest": {"sha256": dataset.digest}}
    start = inputs.start_weights
    weights: dict[str, Any] = {"name": "start-weights", "annotations": {"type": str(start.type)}}
    if start.key is not None:
        weights["uri"] = start.key
    if start.sha256 is not None:
        weights["digest"] = {"sha256": start.sha256}
    yield weights
    for stage, image in sorted(inputs.images.items()):
        name, _, digest = image.partition("@sha256:")
        found = {"name": f"image-{stage}", "uri": name}
        yield {**found, "digest": {"sha256": digest}} if digest else found
