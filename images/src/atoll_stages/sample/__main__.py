"""`python -m atoll_stages.sample field --to DIR` draws the sample; `… put --endpoint URL …` also puts it into a bucket.

`atoll sample field` starts the first one: standard output is a `SampleFiles`, or `reason` and `message` of an error;
standard error has progress lines. The chart's quick start runs the second one in a Job.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from atoll_contract.document import to_json
from atoll_contract.errors import AtollError, ExitCode
from atoll_contract.stage_result import Progress, emit
from atoll_contract.store_spec import StoreSpec, StoreType
from atoll_contract.tool_reports import SAMPLE_IMAGES, SAMPLE_SIZE, SampleFiles
from atoll_stages.sample import field
from atoll_stages.sample.put import put_sample
from atoll_stages.sample.views import RATE, VIDEOS

REPORT_SECONDS = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    return _put(options) if options.verb == "put" else _field(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m atoll_stages.sample", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    draw = verbs.add_parser("field", help="draw into a folder")
    draw.add_argument("--to", type=Path, required=True)
    draw.add_argument("--video-frames", type=int, default=0, help="so many frames of each film")
    put = verbs.add_parser("put", help="draw field.tar and put it into a bucket, which is made")
    put.add_argument("--endpoint", required=True)
    put.add_argument("--bucket", required=True)
    put.add_argument("--key", required=True)
    put.add_argument("--credentials", required=True, help="folder with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    put.add_argument("--wait-seconds", type=float, default=300.0, help="how long to wait for the server")
    for verb in (draw, put):
        verb.add_argument("--pictures", type=int, default=SAMPLE_IMAGES)
        verb.add_argument("--size", type=int, nargs=2, default=SAMPLE_SIZE, metavar=("WIDTH", "HEIGHT"))
        verb.add_argument("--seed", type=int, default=0)
    return parser


def _field(options: argparse.Namespace) -> int:
    try:
        files = draw_field(_spec(options), options.to)
    except AtollError as error:
        print(json.dumps({"reason": error.reason, "message": error.message}, ensure_ascii=False))
        return int(error.code)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    print(to_json(files).decode())
    return 0


def _spec(options: argparse.Namespace) -> field.SampleSpec:
    frames = getattr(options, "video_frames", 0)
    return field.SampleSpec(options.seed, options.pictures, (options.size[0], options.size[1]), frames)


def draw_field(spec: field.SampleSpec, folder: Path, *, processes: int | None = None) -> SampleFiles:
    """Write the archives and, in a folder for each film, its frames into `folder`; progress goes to standard error."""
    processes = processes or field.available_processes()
    progress = _Progress(spec.images + len(VIDEOS) * spec.video_frames)
    archives = [field.write_archive(spec, folder, processes, progress)]
    if spec.video_frames:
        videos = {video: field.write_frames(spec, video, folder / video, processes, progress) for video in VIDEOS}
        archives.append(field.write_harvest(spec, videos["match"], folder))
    return SampleFiles(tuple(archives), VIDEOS if spec.video_frames else (), RATE)


class _Progress:
    """Prints how many pictures are drawn, at most once a second."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._printed = 0.0

    def __call__(self) -> None:
        self._done += 1
        now = time.monotonic()
        if now - self._printed >= REPORT_SECONDS:
            self._printed = now
            message = f"drawing picture {self._done} of {self._total}"
            emit(Progress(100 * self._done / self._total, message=message), sys.stderr)


def _put(options: argparse.Namespace) -> int:
    store = StoreSpec(
        type=StoreType.S3, bucket=options.bucket, endpoint=options.endpoint, credentials_dir=options.credentials
    )

    def draw(folder: Path) -> Path:
        # One process: the Job has the memory for no more.
        draw_field(_spec(options), folder, processes=1)
        return folder / field.ARCHIVE

    try:
        with tempfile.TemporaryDirectory(prefix="atoll-sample-") as folder:
            print(
                put_sample(store, key=options.key, draw=lambda: draw(Path(folder)), wait_seconds=options.wait_seconds)
            )
    except (AtollError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
