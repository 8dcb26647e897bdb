"""docs/operator.md names every setting and every metric, and none that there is not."""

from __future__ import annotations

import re
from pathlib import Path

from atoll_operator import config
from atoll_operator.metrics import Metrics

PAGE = (Path(__file__).parents[3] / "docs" / "operator.md").read_text(encoding="utf-8")


def test_every_setting_stands_in_the_page() -> None:
    read = set(re.findall(r'"(ATOLL_[A-Z_]+)"', Path(config.__file__).read_text(encoding="utf-8")))
    told = set(re.findall(r"^\| `(ATOLL_[A-Z_]+)` \|", PAGE, re.MULTILINE))
    assert told == read


def test_every_metric_stands_in_the_page() -> None:
    families = Metrics().registry.collect()
    there = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    told = set(re.findall(r"^\| `(atoll_[a-z_]+)` \|", PAGE, re.MULTILINE))
    assert told == there
