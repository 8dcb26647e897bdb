"""Which reports are read, and which are refused with a message."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll_contract import keys
from atoll_contract.document import to_dict, to_json
from atoll_operator.devices.reports import InvalidReport, read_report
from support.device_reports import MODEL, NAMESPACE, REPORT

KEY = keys.device_report(NAMESPACE, MODEL, REPORT.device)


def written(**changes: Any) -> bytes:
    return json.dumps(to_dict(REPORT) | changes).encode()


def test_a_report_of_the_edge_is_read_unchanged() -> None:
    assert read_report(to_json(REPORT), KEY) == REPORT


BAD: Mapping[str, tuple[bytes, str]] = {
    "not JSON": (b"\xff\xfe{", "not a JSON document"),
    "cut off": (to_json(REPORT)[:40], "not a JSON document"),
    "a list": (b"[]", "must be an object"),
    "too deep": (b"[" * 100_000, "not a JSON document"),
    "missing field": (b'{"namespace":"team-190"}', "missing"),
    "wrong type": (written(fps="fast"), "fps"),
    "a number no float holds": (to_json(REPORT).replace(b"29.74", b"1" + b"0" * 400), "fps must be a finite number"),
    "infinite": (to_json(REPORT).replace(b"29.74", b"1e999"), "fps"),
    "negative": (written(latencyMillis=-1), "latencyMillis"),
    "version 0": (written(version=0), "version"),
    "version past int32": (written(desiredVersion=2**31), "desiredVersion"),
    "later schema": (written(schemaVersion=2), "schemaVersion"),
    "another device's": (written(device="pi-rear"), "belongs at"),
    "another namespace's": (written(namespace="team-254"), "belongs at"),
    "channel that leaves its folder": (written(channel="../../x"), "channel"),
    "channel too long": (written(channel="c" * 41), "channel"),
    "no time": (written(reportedAt="yesterday"), "reportedAt"),
    "time without a zone": (written(reportedAt="2027-01-09T19:13:10"), "time zone"),
    "time before all times": (written(reportedAt="0001-01-01T00:00:00+23:59"), "reportedAt"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_an_invalid_report_is_refused_with_a_message(name: str) -> None:
    data, word = BAD[name]
    with pytest.raises(InvalidReport, match=word):
        read_report(data, KEY)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_without_a_traceback(data: bytes) -> None:
    with pytest.raises(InvalidReport):
        read_report(data, KEY)


def test_a_field_of_a_newer_device_is_passed_over() -> None:
    assert read_report(written(ofALaterAgent="x"), KEY) == read_report(written(), KEY)


def test_texts_are_one_line_and_bounded() -> None:
    data = written(error="a\n\x1b[31mb\ud800" + "x" * 5000, state="s" * 100, release="r" * 100)
    report = read_report(data, KEY)
    assert report.error is not None
    assert report.error.startswith("a [31mb x")
    assert (len(report.error), len(report.state), len(report.release or "")) == (1024, 64, 63)


def test_times_are_utc() -> None:
    assert read_report(written(reportedAt="2027-01-09T14:13:10.5-05:00"), KEY).reported_at == "2027-01-09T19:13:10Z"
