"""`python -m atoll_stages.train --weights WIDTH --to FOLDER [--trained-on SET | --from FILE]` gets pretrained weights.

The file is Keras Applications' MobileNetV2, fetched by Keras from where Keras keeps it, or one that the user has. Two
kinds of files give a backbone that has learned to detect: MediaPipe's detector (`open_images`), and checkpoints of the
TensorFlow Object Detection API (`model.ckpt.index`). Arrays are checked by number, shape and type before one is read,
as at the start of a training.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import keras

from atoll_contract.document import to_json
from atoll_contract.errors import AtollError
from atoll_contract.files import file_sha256
from atoll_contract.keys import IMAGENET_WIDTHS, imagenet_names
from atoll_contract.tool_reports import WeightsFile
from atoll_contract.train_spec import TrainedOn
from atoll_stages.train import open_images
from atoll_stages.train.backbone import mobilenet_v2
from atoll_stages.train.initial_weights import load_imagenet
from atoll_stages.train.tfod_checkpoint import INDEX, load_backbone

# Where keras.applications gets them; it has no public name for it.
ADDRESS = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"
SIDE = 224
TFLITE = ".tflite"


def fetch_weights(arguments: Sequence[str]) -> int:
    """Runs the command: prints one JSON document on standard output, also where there are no weights to be had."""
    options = _parser().parse_args(arguments)
    found = weights_file(options.weights, options.source, options.to, trained_on=options.trained_on)
    sys.stdout.write(to_json(found).decode() + "\n")
    return 0


def weights_file(
    width: float, given: Path | None, folder: Path, *, trained_on: TrainedOn = TrainedOn.IMAGENET
) -> WeightsFile:
    """Puts the weights of a width into `folder`, under a name that a training looks for, and says what they are.

    `trained_on` says which file is fetched where none is `given`.
    """
    modern, classic = imagenet_names(width)
    address = open_images.ADDRESS if trained_on is TrainedOn.OPEN_IMAGES else ADDRESS + classic
    source = str(given or address)
    source_sha256 = None
    # Keras reads and writes its newer layout in files of this ending only.
    path = folder / (modern if source.endswith((".weights.h5", INDEX, TFLITE)) else classic)
    try:
        local = given or _fetch(address, folder)
        if source.endswith((INDEX, TFLITE)):
            backbone = keras.applications.MobileNetV2((SIDE, SIDE, 3), alpha=width, include_top=False, weights=None)
            load = load_backbone if source.endswith(INDEX) else open_images.load_backbone
            load(local, backbone)
            backbone.save_weights(path)
            source_sha256 = file_sha256(local) if source.endswith(TFLITE) else None
        else:
            shutil.copyfile(local, path)
    except AtollError as error:
        return WeightsFile(source, width, problem=error.message)
    except OSError as error:
        return WeightsFile(source, width, problem=f"{source} cannot be read: {error.strerror or error}")
    except Exception as error:  # noqa: BLE001  # get_file raises plain Exceptions
        # Keras names the address, too, and a code of HTTP, which is None where no server was reached.
        cause = str(error).replace(f" on {source}: ", ": ").replace(": None -- ", ": ")
        return WeightsFile(source, width, problem=f"{source} cannot be fetched: {cause}")
    image = keras.Input((SIDE, SIDE, 3), name="image")
    model = keras.Model(image, list(mobilenet_v2(image, width=width, top=True).values()))
    try:
        layers = load_imagenet(model, path, width=width)
    except AtollError as error:
        path.unlink()
        return WeightsFile(source, width, problem=error.message)
    size, sha256 = path.stat().st_size, file_sha256(path)
    return WeightsFile(source, width, str(path), sha256, size, layers, source_sha256=source_sha256)


def _fetch(address: str, folder: Path) -> Path:
    # Keras shows a bar on standard output, which holds the document alone.
    keras.utils.disable_interactive_logging()
    return Path(keras.utils.get_file(address.rpartition("/")[2], address, cache_dir=folder / "keras"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m atoll_stages.train", description=__doc__)
    parser.add_argument("--weights", type=float, choices=IMAGENET_WIDTHS, required=True, help="width of the backbone")
    parser.add_argument("--trained-on", type=TrainedOn, default=TrainedOn.IMAGENET, help="which file is fetched")
    parser.add_argument("--from", type=Path, dest="source", metavar="FILE", help="instead of an address")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="an existing folder")
    return parser
