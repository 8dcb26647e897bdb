"""`python -m atoll_edge.video`: runs a model on video files; `atoll test-video` starts it.

Standard output is one JSON document: the result, or the `reason` and `message` of a failure. Standard error has
progress lines, as a stage's output has. The exit code is that of the reason.
"""

import argparse
import errno
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from atoll_contract.errors import AtollError, ExitCode, Reason, SpecError
from atoll_edge.detector.backends.base import LoadError
from atoll_edge.detector.model import LoadedModelSpec
from atoll_edge.detector.tiling import Tiling
from atoll_edge.models.bundle import BundleError, named_model
from atoll_edge.video.evaluate import evaluate_videos
from atoll_edge.video.files import VideoFile


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="atoll-video-") as folder:
            model = _model(options, Path(folder) / "bundle")
            videos = [VideoFile(name, Path(path)) for name, path in options.film]
            document = evaluate_videos(model, videos, options.output, tiling=options.tiles)
    except (BundleError, LoadError) as error:
        return _refuse(SpecError(str(error)))
    except AtollError as error:
        return _refuse(error)
    except OSError as error:
        return _refuse(_disk_error(error))
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    print(json.dumps(document, indent=2, ensure_ascii=False))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m atoll_edge.video", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="bundle, folder or .tflite file")
    parser.add_argument("--labels", type=Path, help="labels of a bare .tflite file: map.pbtxt or labels.txt")
    parser.add_argument("--threshold", type=float, help="score from which any class counts as seen")
    parser.add_argument("--film", nargs=2, action="append", required=True, metavar=("NAME", "PATH"), help="a video")
    parser.add_argument("--tiles", type=_tiling, metavar="ROWSxCOLUMNS", help="show the model tiles of each frame, too")
    parser.add_argument("--output", type=Path, required=True, help="folder, which is there")
    return parser


def _tiling(text: str) -> Tiling:
    found = re.fullmatch(r"([1-3])x([1-3])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r}; write rows and columns from 1 to 3, as 2x2")
    return Tiling(int(found[1]), int(found[2]))


def _model(options: argparse.Namespace, folder: Path) -> LoadedModelSpec:
    model = named_model(options.model, labels=options.labels, folder=folder)
    if options.threshold is None:
        return model
    return replace(model, thresholds=(options.threshold,) * len(model.labels))


def _disk_error(error: OSError) -> AtollError:
    full = error.errno == errno.ENOSPC
    reason = Reason.EPHEMERAL_STORAGE_EXCEEDED if full else Reason.INVALID_SPEC
    return AtollError(reason, f"{error.filename or 'a file'}: {error.strerror or error}")


def _refuse(error: AtollError) -> int:
    print(json.dumps({"reason": error.reason, "message": error.message}, ensure_ascii=False))
    return int(error.code)


if __name__ == "__main__":
    sys.exit(main())
