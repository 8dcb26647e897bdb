"""The export stage's input on a store: a small dataset, untrained weights and a history."""

from pathlib import Path

from atoll_contract.document import to_json
from atoll_contract.keys import RunRef
from atoll_contract.stage import ExportSpec, QualityGates, Stage, StageInput
from atoll_contract.stage_result import Artifact
from atoll_contract.store.directory import DirStore
from atoll_contract.store_spec import StoreSpec, StoreType
from atoll_contract.train_spec import Architecture, InitFrom, StartWeights, TrainSpec
from atoll_stages.runtime.context import StageContext
from atoll_stages.train.detector import build_detector
from atoll_stages.train.history import Best, History, Point
from atoll_stages.train.initial_weights import ModelInfo, weights_by_path, write_weights
from support.detection_data import CLASSES, store_dataset

TRAIN = TrainSpec(Architecture.FPNLITE_192, 0.35, StartWeights(InitFrom.RANDOM), steps=10)
NAME = "<b>run & co</b>"
HISTORY = History(
    start="random weights",
    accelerator="CPU",
    steps=10,
    step=10,
    best=Best(10, 0.5),
    images_per_second=1.0,
    seconds=10.0,
    parameters=1000,
    settings={"seed": "0"},
    points=(Point(5, 2.0, 1.0, 0.5, 0.1), Point(10, 1.0, 0.5, 0.25, 0.05, 0.5, 0.3)),
)


def export_context(folder: Path, quality: QualityGates) -> StageContext:
    store, work = DirStore(folder / "store"), folder / "work"
    work.mkdir()
    dataset = store_dataset(store, work, train=2, validation=3)
    model = build_detector(architecture=TRAIN.architecture, width=TRAIN.width, classes=len(CLASSES), side=192)
    write_weights(work / "w.h5", weights_by_path(model), ModelInfo(TRAIN.architecture, TRAIN.width, CLASSES, step=10))
    (work / "h.json").write_bytes(to_json(HISTORY))

    def stored(name: str, path: Path) -> Artifact:
        info = store.upload(f"runs/local/u/train/{path.name}", path)
        return Artifact(name, info.key, info.sha256 or "", info.size)

    given = StageInput(
        stage=Stage.EXPORT,
        attempt=1,
        run=RunRef("local", NAME, "u"),
        store=StoreSpec(StoreType.DIRECTORY, path=str(folder / "store")),
        upstream={
            Stage.CONVERT: (dataset,),
            Stage.TRAIN: (stored("weights", work / "w.h5"), stored("history", work / "h.json")),
        },
        export=ExportSpec(TRAIN, quality),
    )
    return StageContext(given, store, work, pod_uid="p")
