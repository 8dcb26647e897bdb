"""Taking the frames worth labelling out of videos, and accounting for every other one."""

from __future__ import annotations

import csv
import errno
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from atoll_cli.video.reader import Film, Reader
from atoll_cli.video.select import Chooser, Fate, Measured, Thresholds, Verdict, measured

if TYPE_CHECKING:
    from av import VideoFrame


QUALITY = 95


@dataclass(frozen=True)
class Layout:
    """Where pictures go: below `pictures`, in a folder for each video unless `flat`."""

    pictures: Path
    flat: bool = False

    def place(self, film: Film, number: int) -> Path:
        """The file of a frame."""
        folder = self.pictures if self.flat else self.pictures / film.name
        return folder / film.frame_name(number)


@dataclass(frozen=True)
class Row:
    """One sample: its figures, the verdict, and its file where it was kept."""

    film: Film
    sample: Measured
    verdict: Verdict
    file: str = ""


@dataclass
class Account:
    """What became of the frames of one video. A sample more blurred than `blur_limit` was dropped."""

    film: Film
    decoded: int
    problem: str
    blur_limit: float
    rows: list[Row] = field(default_factory=list)

    @property
    def passed_over(self) -> int:
        """The frames between the samples."""
        return self.decoded - len(self.rows)

    def count(self, fate: Fate) -> int:
        """How many samples met `fate`."""
        return sum(row.verdict.fate is fate for row in self.rows)


def extract(films: Sequence[Film], layout: Layout, *, rate: float, thresholds: Thresholds) -> list[Account]:
    """Write the frames worth labelling of `films`, `rate` samples a second, and account for the rest.

    Each video is read twice, as what is blurred shows only beside the others. A video that cannot be read, or not to
    its end, is no failure: its account has the problem.

    Raises:
        OSError: a picture cannot be written, or a video changed meanwhile.
    """
    readers = [Reader(film.path, rate) for film in films]
    videos = [[measured(sample) for sample in reader] for reader in readers]
    chooser = Chooser(thresholds, videos)
    accounts = []
    for film, reader, video in zip(films, readers, videos, strict=True):
        account = Account(film, reader.decoded, reader.problem, chooser.blur_limit(video))
        for sample in video:
            path = layout.place(film, sample.number)
            verdict = chooser.judge(path.name, sample, blur_limit=account.blur_limit)
            file = path.relative_to(layout.pictures.parent).as_posix() if verdict.fate is Fate.KEPT else ""
            account.rows.append(Row(film, sample, verdict, file))
        _write(account, layout, rate)
        accounts.append(account)
    return accounts


def _write(account: Account, layout: Layout, rate: float) -> None:
    kept = {row.sample.number for row in account.rows if row.file}
    for sample in Reader(account.film.path, rate):
        if not kept:
            return
        if sample.number in kept:
            kept.remove(sample.number)
            _save(sample.frame, layout.place(account.film, sample.number))
    if kept:
        # The account would name pictures that are not there.
        path, count = str(account.film.path), len(kept)
        raise OSError(
            errno.EIO, f"the video was read once and not a second time; {count} of its frames are missing", path
        )


def _save(frame: VideoFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    from PIL import Image

    picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
    if frame.rotation:
        # A telephone films lying down and notes how it was held; what is shown upright must be labelled upright.
        picture = picture.rotate(frame.rotation, expand=True)
    picture.save(path, "JPEG", quality=QUALITY, subsampling=0)


SUMMARY, TABLE = "frames.json", "frames.csv"
COLUMNS = ("video", "frame", "seconds", "fate", "blur", "change", "like", "file")


def summary(accounts: Sequence[Account], *, rate: float, thresholds: Thresholds) -> dict[str, object]:
    """What frames.json holds: the settings, and for all and each video where its frames went."""
    return {
        "settings": {"rate": rate, "maxBlur": thresholds.blur, "minChange": thresholds.change},
        "total": _counts(accounts),
        "videos": [
            {
                "name": account.film.name,
                "file": account.film.path.name,
                **_counts([account]),
                "blurLimit": round(account.blur_limit, 3),
                "problem": account.problem,
            }
            for account in accounts
        ],
    }


def write_account(folder: Path, accounts: Sequence[Account], document: dict[str, object]) -> None:
    """Write frames.json and frames.csv into `folder`."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    (folder / SUMMARY).write_text(text + "\n", encoding="utf-8")
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_columns(row) for account in accounts for row in account.rows)


def _counts(accounts: Sequence[Account]) -> dict[str, int]:
    """`frames` is the sum of the other four."""
    return {
        "frames": sum(account.decoded for account in accounts),
        "betweenSamples": sum(account.passed_over for account in accounts),
        "blurred": sum(account.count(Fate.BLURRED) for account in accounts),
        "nearDuplicates": sum(account.count(Fate.DUPLICATE) for account in accounts),
        "kept": sum(account.count(Fate.KEPT) for account in accounts),
    }


def _columns(row: Row) -> tuple[object, ...]:
    sample, verdict = row.sample, row.verdict
    change = "" if verdict.change is None else f"{verdict.change:.4f}"
    figures = (sample.index, f"{sample.seconds:.3f}", verdict.fate, f"{sample.blur:.3f}", change)
    return (row.film.name, *figures, verdict.like, row.file)
