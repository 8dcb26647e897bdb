"""`python -m atoll_stages.train --weights WIDTH --to FOLDER [--from FILE]` gets Keras' own ImageNet weights.

The file is Keras Applications' MobileNetV2, fetched by Keras from where Keras keeps it, or one that the user has. That
may also be a checkpoint of the TensorFlow Object Detection API (`model.ckpt.index`), whose backbone has learned to
detect. Arrays are checked by number, shape and type before one is read, as at the start of a training.
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
from atoll_stages.train.backbone import mobilenet_v2
from atoll_stages.train.initial_weights import load_imagenet
from atoll_stages.train.tfod_checkpoint import INDEX, load_backbone

# Where keras.applications gets them; it has no public name for it.
ADDRESS = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"
SIDE = 224


def fetch_weights(arguments: Sequence[str]) -> int:
    """Runs the command: prints one JSON document on standard output, also where there are no weights to be had."""
    options = _parser().parse_args(arguments)
    sys.stdout.write(to_json(weights_file(options.weights, options.source, options.to)).decode() + "\n")
    return 0


def weights_file(width: float, given: Path | None, folder: Path) -> WeightsFile:
    """Puts the weights of a width into `folder`, under a name that a training looks for, and says what they are."""
    modern, classic = imagenet_names(width)
    source = str(given) if given else ADDRESS + classic
    # Keras reads its newer layout from files of this ending only.
    path = folder / (modern if source.endswith(".weights.h5") else classic)
    try:
        if source.endswith(INDEX):
            path = folder / modern
            backbone = keras.applications.MobileNetV2((SIDE, SIDE, 3), alpha=width, include_top=False, weights=None)
            load_backbone(Path(source), backbone)
            backbone.save_weights(path)
        elif given:
            shutil.copyfile(given, path)
        else:
            # Keras shows a bar on standard output, which holds the document alone.
            keras.utils.disable_interactive_logging()
            shutil.copyfile(keras.utils.get_file(classic, source, cache_dir=folder / "keras"), path)
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
    return WeightsFile(source, width, path=str(path), sha256=file_sha256(path), size=path.stat().st_size, layers=layers)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m atoll_stages.train", description=__doc__)
    parser.add_argument("--weights", type=float, choices=IMAGENET_WIDTHS, required=True, help="width of the backbone")
    parser.add_argument("--from", type=Path, dest="source", metavar="FILE", help="instead of Keras' address")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="an existing folder")
    return parser
