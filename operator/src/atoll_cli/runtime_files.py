"""The files of a release under the names, and with the lists of labels, that other people's runtimes ask for."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from atoll_cli.output import to_yaml
from atoll_cli.releases import PublishedRelease
from atoll_contract.document import replace
from atoll_contract.errors import IntegrityError, SpecError
from atoll_contract.images import Resize
from atoll_contract.labelmap import labels_text
from atoll_contract.release import Manifest, ManifestFile, Role
from atoll_contract.tflite import Model, TfliteError, read_model

# A detector that ends in the post-processing operation gives boxes, classes, scores and their number; one with
# distributions gives boxes and scores as the network has them.
_POSTPROCESSED_OUTPUTS, _DISTRIBUTION_OUTPUTS = 4, 2
# Frigate shows a detection of this score or more, where the release asks for less.
_FRIGATE_MIN_SCORE = 0.4
_PHOTONVISION_SIDE = 640
_PHOTONVISION_FILE = "model-rk3588.rknn"


@dataclass(frozen=True)
class _RuntimeFiles:
    """Writes the files for one release into `folder`; `model` is what the int8 file at `int8` says of itself."""

    release: PublishedRelease
    folder: Path
    int8: Path
    model: Model

    def frigate(self) -> Iterator[Path]:
        """The model, `labelmap.txt`, and the settings that name both."""
        compiled = self.release.manifest.file(Role.MODEL_EDGETPU)
        if self._is_postprocessed:
            kind = "ssd"
        elif compiled is not None:
            kind = "yolo-generic"
        else:
            raise SpecError(
                f"Frigate reads a detector like {self._name} on a Coral only, and it is not compiled for one"
            )
        yield from self._model("model.tflite", compiled)
        labels = self.release.manifest.labels
        numbered = "".join(f"{number} {line}" for number, line in enumerate(labels_text(labels).splitlines(True)))
        yield self._write("labelmap.txt", numbered)
        yield self._write("frigate.yaml", self._frigate_settings(kind, coral=compiled is not None))

    def _frigate_settings(self, kind: str, *, coral: bool) -> str:
        manifest = self.release.manifest
        names = labels_text(manifest.labels).splitlines()
        settings = {
            "detectors": {
                "atoll": {"type": "edgetpu", "device": "usb"} if coral else {"type": "cpu", "num_threads": 3}
            },
            "model": {
                "path": f"/config/{self._name}/model.tflite",
                "labelmap_path": f"/config/{self._name}/labelmap.txt",
                "width": manifest.input.width,
                "height": manifest.input.height,
                "input_tensor": "nhwc",
                "input_pixel_format": "rgb",
                "model_type": kind,
            },
            "objects": {
                "track": names,
                "filters": {
                    name: dict.fromkeys(("min_score", "threshold"), max(score, _FRIGATE_MIN_SCORE))
                    for name, score in zip(names, manifest.thresholds, strict=True)
                },
            },
        }
        advice = f"# Copy this folder into Frigate's /config as {self._name}, and these lines into its config.yml.\n"
        return advice + to_yaml(settings)

    def limelight(self) -> Iterator[Path]:
        """The model for the CPU and, where it is compiled, for a Coral, and the labels, under the names of Limelight's
        own training notebook."""
        self._require_postprocessed("Limelight")
        yield from self._model("limelight_neural_detector_8bit.tflite")
        compiled = self.release.manifest.file(Role.MODEL_EDGETPU)
        if compiled is not None:
            yield from self._model("limelight_neural_detector_coral.tflite", compiled)
        yield self._write("limelight_neural_detector_labels.txt", labels_text(self.release.manifest.labels))

    def mediapipe(self) -> Iterator[Path]:
        """The model alone: it carries its labels."""
        self._require_postprocessed("MediaPipe")
        if not self.model.has_metadata:
            raise SpecError(
                f"{self._name} carries no TFLite metadata, which MediaPipe asks for: an older version of Atoll "
                "exported it; train it anew"
            )
        yield from self._model(f"{self._name}.tflite")

    def photonvision(self) -> Iterator[Path]:
        """The model for the RK3588 and the labels, under the names that PhotonVision's import takes apart."""
        manifest = self.release.manifest
        if self._is_postprocessed or manifest.input.width != _PHOTONVISION_SIDE:
            raise SpecError(
                f"PhotonVision reads detectors with distributions and an input of 640 pixels; {self._name} is another "
                f"one ({manifest.input.width} pixels): train one with model.architecture dfl-mobilenet-v2-fpn-640"
            )
        compiled = next((item for item in manifest.files if item.name == _PHOTONVISION_FILE), None)
        if compiled is None:
            raise SpecError(f"{self._name} has no file for the RK3588; train it with compile: [{{target: rknn}}]")
        # PhotonVision's pattern has no dash in the name.
        name = re.sub(r"[^a-zA-Z0-9._]", "_", self._name)
        stem = f"{name}-{manifest.input.width}-{manifest.input.height}-yolov8"
        yield from self._model(f"{stem}.rknn", compiled)
        yield self._write(f"{stem}-labels.txt", labels_text(manifest.labels))

    @property
    def _name(self) -> str:
        return self.release.manifest.release

    @property
    def _is_postprocessed(self) -> bool:
        return len(self.model.outputs) == _POSTPROCESSED_OUTPUTS

    def _require_postprocessed(self, runtime: str) -> None:
        if not self._is_postprocessed:
            raise SpecError(f"{runtime} reads detectors of an ssd architecture; {self._name} is another one")

    def _model(self, name: str, compiled: ManifestFile | None = None) -> Iterator[Path]:
        """A compiled file or, without one, the int8 file, under another name."""
        if compiled is not None:
            yield from self.release.fetch([replace(compiled, name=name)], self.folder)
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        yield Path(shutil.copyfile(self.int8, self.folder / name))

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path


_WRITERS: dict[str, Callable[[_RuntimeFiles], Iterator[Path]]] = {
    "frigate": _RuntimeFiles.frigate,
    "limelight": _RuntimeFiles.limelight,
    "mediapipe": _RuntimeFiles.mediapipe,
    "photonvision": _RuntimeFiles.photonvision,
}
RUNTIMES = tuple(_WRITERS)
# What a program does with pictures, where that is known, and the models that expect it.
_RESIZES = {
    "frigate": (Resize.LETTERBOX, "Frigate cuts squares out of the picture and does not stretch them"),
    "mediapipe": (Resize.SQUASH, "MediaPipe stretches the picture to a square"),
    "photonvision": (Resize.LETTERBOX, "PhotonVision keeps the picture's aspect ratio and puts grey beside it"),
}


def resize_warning(manifest: Manifest, runtime: str) -> str | None:
    """Where the program gives the model other pictures than it was trained on: that, and what to do."""
    if runtime not in _RESIZES or _RESIZES[runtime][0] is manifest.resize:
        return None
    wanted, does = _RESIZES[runtime]
    return (
        f"{does}, but {manifest.release} was trained with resize: {manifest.resize}; it finds less there, unless the "
        f"pictures are square. Train one with model.preprocessing.resize: {wanted}"
    )


def write_runtime_files(release: PublishedRelease, runtime: str, folder: Path) -> Iterator[Path]:
    """Put the files that the runtime asks for into `folder`, one after the other; yields their paths.

    Raises:
        SpecError: the runtime cannot run this detector, and how to train one that it runs.
        IntegrityError: the release has no int8 file, or one that cannot be read.
        StoreError: the store does not answer, or does not allow it.
    """
    found = release.manifest.file(Role.MODEL_INT8)
    if found is None:
        raise IntegrityError(f"the manifest of {release.manifest.release} names no int8 model")
    with tempfile.TemporaryDirectory() as work:
        (int8,) = release.fetch([found], Path(work))
        try:
            model = read_model(int8.read_bytes())
        except TfliteError as error:
            raise IntegrityError(f"{found.name} of {release.manifest.release}: {error}") from None
        if len(model.outputs) not in (_POSTPROCESSED_OUTPUTS, _DISTRIBUTION_OUTPUTS):
            raise IntegrityError(
                f"{found.name} of {release.manifest.release} has {len(model.outputs)} outputs; a detector has 4 or 2"
            )
        yield from _WRITERS[runtime](_RuntimeFiles(release, folder, int8, model))
