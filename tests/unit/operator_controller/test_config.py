"""Settings from the environment: defaults, and refusals that name the variable."""

from __future__ import annotations

import pytest

from atoll_operator.config import ConfigError, Settings, from_environment
from atoll_operator.lifecycle.model import PollIntervals


def test_an_empty_environment_gives_the_defaults() -> None:
    assert from_environment({}) == Settings()
    assert from_environment({"ATOLL_WORKERS": "", "ATOLL_NAMESPACES": ""}) == Settings()


def test_namespaces_are_a_list() -> None:
    assert from_environment({"ATOLL_NAMESPACES": "team-190, team-254,"}).namespaces == ("team-190", "team-254")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("ATOLL_WORKERS", "many", "ATOLL_WORKERS is 'many'; it must be a whole number"),
        ("ATOLL_WORKERS", "0", "ATOLL_WORKERS is 0; the least is 1"),
        ("ATOLL_RESYNC_SECONDS", "0", "ATOLL_RESYNC_SECONDS is 0; allowed are seconds above 0"),
        ("ATOLL_RESYNC_SECONDS", "nan", "ATOLL_RESYNC_SECONDS is nan"),
        ("ATOLL_RESYNC_SECONDS", "5min", "it must be a number of seconds"),
        ("ATOLL_LEASE_DURATION_SECONDS", "5", "retry < renew deadline < duration"),
        ("ATOLL_STORE_PATIENCE_SECONDS", "0", "ATOLL_STORE_PATIENCE_SECONDS is 0; allowed are seconds above 0"),
        ("ATOLL_DOCS_URL", "docs.example", "ATOLL_DOCS_URL is 'docs.example'; allowed are http:// or https://"),
        ("ATOLL_DOCS_URL", "https://docs.example/#x", "none of them a space"),
        ("ATOLL_LOG_FORMAT", "xml", "allowed are json, text"),
    ],
)
def test_a_value_without_meaning_is_refused_by_name(name: str, value: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        from_environment({name: value})


def test_the_poll_intervals_of_decide_and_of_the_pod_reader_are_one_setting() -> None:
    read = from_environment({"ATOLL_PODS_AFTER_SECONDS": "1", "ATOLL_PODS_RUNNING_SECONDS": "60"})
    assert read.poll == PollIntervals(first=1.0, starting=5.0, running=60.0)
