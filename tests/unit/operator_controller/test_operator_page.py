"""docs/operator.md names every setting and every metric, and none that there is not."""

from __future__ import annotations

import re
from pathlib import Path

from atoll_operator import config
from atoll_operator.controller.metrics import OperatorMetrics
from atoll_operator.devices import config as devices_config
from atoll_operator.devices.conditions import DeviceReason
from atoll_operator.devices.metrics import DeviceMetrics

PAGE = (Path(__file__).parents[3] / "docs" / "operator.md").read_text(encoding="utf-8")


def test_every_setting_stands_in_the_page() -> None:
    sources = [Path(str(module.__file__)).read_text(encoding="utf-8") for module in (config, devices_config)]
    read = {name for source in sources for name in re.findall(r'"(ATOLL_[A-Z_]+)"', source)}
    told = set(re.findall(r"^\| `(ATOLL_[A-Z_]+)` \|", PAGE, re.MULTILINE))
    assert told == read


def test_every_metric_stands_in_the_page() -> None:
    families = [*OperatorMetrics().registry.collect(), *DeviceMetrics().registry.collect()]
    there = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    told = set(re.findall(r"^\| `(atoll_[a-z_]+)` \|", PAGE, re.MULTILINE))
    assert told == there


def test_every_reason_of_a_device_stands_in_the_page() -> None:
    table = PAGE.split("| condition | reason |")[1].split("\n\n")[0]
    assert {str(reason) for reason in DeviceReason} | {"StorageUnavailable"} == set(
        re.findall(r"`([A-Z][A-Za-z]+)`", table)
    ) - {"Ready", "UpToDate"}
