"""Runs that are ready to be published with all that their provenance names."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atoll_contract import keys
from atoll_contract.dataset import Dataset, SourceInfo
from atoll_contract.document import replace, to_json
from atoll_contract.stage import BuildInputs, Stage, StageInput
from atoll_contract.stage_result import Artifact
from atoll_contract.store.base import Store
from atoll_contract.store_spec import StoreSpec
from atoll_contract.train_spec import InitFrom, StartWeights
from support.publishing import METRICS, exported_run, publish_once

DIGEST = "0123456789abcdef" * 4
INPUTS = BuildInputs(
    spec={"training": {"steps": 1000, "learningRate": "0.01"}, "datasets": [{"key": "datasets/team/notes.tar"}]},
    start_weights=StartWeights(InitFrom.CHECKPOINT, "weights/start.h5", DIGEST),
    images={"train": f"registry.example/train@sha256:{DIGEST}", "convert": "registry.example/convert:1"},
    profile_sha256=DIGEST,
)
DATASET = Dataset(
    digest=DIGEST,
    sources=(SourceInfo("datasets/team/notes.tar", "coco", DIGEST, "etag", 120, 300),),
    classes=(),
    splits={},
    label_map=Artifact("labels", "x", DIGEST, 1),
    split_by="hash",
)
TOOLS = {"tensorflow": "2.21.0"}


def given_run(
    store: Store,
    spec: StoreSpec,
    *,
    dataset: Dataset = DATASET,
    metrics: Mapping[str, Any] = METRICS,
    tools: Mapping[str, str] = TOOLS,
    **publish: Any,
) -> StageInput:
    """A run that is ready to be published, with a converted data set and the tools' versions in its metrics."""
    run = exported_run(store, spec, **{"inputs": INPUTS, **publish})
    upstream = {str(stage): list(artifacts) for stage, artifacts in run.upstream.items()}
    upstream[str(Stage.CONVERT)] = [_put(store, "dataset", "cache/local/datasets/x/dataset.json", to_json(dataset))]
    document = json.dumps({**metrics, "tools": tools}).encode()
    exported = upstream[str(Stage.EXPORT)]
    (index,) = [number for number, item in enumerate(exported) if item.name == "metrics"]
    exported[index] = _put(store, "metrics", exported[index].key, document)
    return replace(run, upstream={stage: tuple(items) for stage, items in upstream.items()})


def published_statement(store: Store, given: StageInput, work: Path) -> dict[str, Any]:
    """Publishes the run; returns what its release says of its making."""
    publish_once(given, store, work)
    assert given.publish is not None
    version = given.publish.version
    found: dict[str, Any] = json.loads(store.get(keys.provenance("local", "note", version, signed=False)))
    return found


def _put(store: Store, name: str, key: str, data: bytes) -> Artifact:
    store.put(key, data)
    return Artifact(name, key, hashlib.sha256(data).hexdigest(), len(data))
