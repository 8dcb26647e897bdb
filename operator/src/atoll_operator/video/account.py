"""The accounts of an extraction as files: frames.json (what, why, how many) and frames.csv (each sample)."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from atoll_operator.video.choice import Fate, Thresholds
from atoll_operator.video.extraction import Account, Row

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
