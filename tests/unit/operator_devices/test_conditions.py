"""Conditions of an EdgeDevice from its report."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from atoll_contract.document import replace, rfc3339
from atoll_contract.errors import Reason
from atoll_contract.release import DeviceReport
from atoll_operator.api.crds import definitions
from atoll_operator.devices.conditions import DeviceFacts, device_spec, device_status, unknown_status
from atoll_operator.devices.reports import StoredReport
from support.device_reports import MODEL, REPORT, REPORTED

NOW = "2027-01-09T19:14:00Z"
FRESH: dict[str, Any] = {"metadata": {"name": "pi-front", "generation": 1}, "spec": {}}


def status_of(
    report: DeviceReport | None = REPORT,
    *,
    age: float = 10.0,
    newest: int | None = None,
    known: dict[str, Any] = FRESH,
    at: float = REPORTED,
) -> dict[str, Any]:
    stored = StoredReport("pi-front", MODEL, "etag", at, report, None if report else "the report x cannot be read: no")
    status = device_status(DeviceFacts(stored, age, newest, 300.0), known, now=NOW)
    jsonschema.validate(status, definitions()["EdgeDevice"].schema["properties"]["status"])
    return status


def condition(status: dict[str, Any], kind: str) -> tuple[str, str, str]:
    (found,) = [item for item in status["conditions"] if item["type"] == kind]
    return found["status"], found["reason"], found["message"]


def test_the_status_shows_the_report() -> None:
    status = status_of()
    assert {key: value for key, value in status.items() if key != "conditions"} == {
        "observedGeneration": 1,
        "state": "Active",
        "reportedAt": "2027-01-09T19:13:10Z",
        "lastSeen": "2027-01-09T19:13:10Z",
        "release": "note-v3",
        "version": 3,
        "manifestSha256": "0123456789abcdef" * 4,
        "desiredVersion": 3,
        "backend": "edgetpu",
        "fps": "29.7",
        "latencyMillis": "18.2",
        "freeBytes": 9_000_000_000,
        "agentVersion": "0.1.0",
    }
    assert condition(status, "Ready") == ("True", "Detecting", "it runs note-v3 on edgetpu")
    assert condition(status, "UpToDate")[:2] == ("True", "Current")


@pytest.mark.parametrize(
    ("changes", "newest", "state", "message"),
    [
        ({}, 4, ("False", "Behind"), "it runs v3; CHANNEL is at v4; the device is Active"),
        ({"desired_version": 5}, 4, ("False", "Behind"), "it runs v3; CHANNEL is at v5; the device is Active"),
        ({"error": "v4 is not signed"}, 4, ("False", "Refused"), "it runs v3; CHANNEL is at v4: v4 is not signed"),
        (
            {"version": None, "release": "factory", "desired_version": None},
            1,
            ("False", "Behind"),
            "it runs factory; CHANNEL is at v1; the device is Active",
        ),
        ({"error": "a Coral was lost"}, 3, ("True", "Current"), "it runs v3, the newest of CHANNEL"),
        ({"desired_version": None}, None, ("Unknown", "NothingPublished"), "no version of CHANNEL is known"),
    ],
)
def test_the_condition_up_to_date_compares_with_the_newest_version(
    changes: dict[str, Any], newest: int | None, state: tuple[str, str], message: str
) -> None:
    found = condition(status_of(replace(REPORT, **changes), newest=newest), "UpToDate")
    assert found == (*state, message.replace("CHANNEL", "channel stable of note"))


def test_a_silent_device_is_offline_and_keeps_its_last_report() -> None:
    status = status_of(age=301.0, newest=4)
    assert condition(status, "Ready")[:2] == ("False", "Offline")
    assert "2027-01-09T19:13:10Z" in condition(status, "Ready")[2]
    assert condition(status, "UpToDate")[:2] == ("False", "Behind")
    assert status["release"] == "note-v3"


def test_time_alone_changes_no_status() -> None:
    later = status_of(age=900.0, known=FRESH | {"status": status_of(age=301.0)})
    assert later == status_of(age=301.0)


@pytest.mark.parametrize(("seconds", "written"), [(60, False), (299, False), (300, True)])
def test_figures_alone_are_written_every_five_minutes(seconds: int, written: bool) -> None:
    before = status_of()
    later = replace(REPORT, fps=12.0, free_bytes=7, reported_at=rfc3339(REPORTED + seconds))
    status = status_of(later, known=FRESH | {"status": before}, at=REPORTED + seconds)
    assert (status != before) is written
    assert status["fps"] == ("12.0" if written else "29.7")


def test_all_else_is_written_at_once_with_the_figures() -> None:
    before = status_of()
    later = replace(REPORT, state="RolledBack", fps=12.0)
    status = status_of(later, known=FRESH | {"status": before}, at=REPORTED + 60)
    assert (status["state"], status["fps"], status["lastSeen"]) == ("RolledBack", "12.0", "2027-01-09T19:14:10Z")


def test_a_device_without_a_model() -> None:
    report = replace(REPORT, state="NoModel", release=None, version=None, error="no space left")
    assert condition(status_of(report), "Ready") == ("False", "NoModel", "it runs no model (NoModel): no space left")


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (REPORTED + 299, ""),
        (REPORTED - 299, ""),
        (REPORTED + 3700, "; its clock is more than 60 min behind"),
        (REPORTED - 700, "; its clock is more than 10 min ahead"),
    ],
)
def test_a_wrong_clock_is_mentioned_and_does_no_harm(at: float, text: str) -> None:
    status = status_of(at=at)
    assert condition(status, "Ready") == ("True", "Detecting", f"it runs note-v3 on edgetpu{text}")
    assert status["lastSeen"] == rfc3339(at)


def test_an_invalid_report_is_a_condition_and_the_last_good_one_stays() -> None:
    before = status_of()
    status = status_of(None, known=FRESH | {"status": before}, at=REPORTED + 60)
    assert condition(status, "Ready") == ("False", "ReportInvalid", "the report x cannot be read: no")
    assert condition(status, "UpToDate")[:2] == ("Unknown", "ReportInvalid")
    assert status["release"] == "note-v3"
    assert status["lastSeen"] == "2027-01-09T19:14:10Z"


def test_a_device_with_an_invalid_first_report_has_an_unknown_channel() -> None:
    stored = StoredReport("pi-front", MODEL, "etag", REPORTED, problem="no")
    spec = {"model": MODEL, "channel": "unknown"}
    assert device_spec(stored, None) == spec
    jsonschema.validate(spec, definitions()["EdgeDevice"].schema["properties"]["spec"])
    assert device_spec(stored, {"model": "old", "channel": "beta"}) == {"model": "old", "channel": "beta"}


def test_a_transition_time_changes_with_its_condition_only() -> None:
    first = status_of()
    for item in first["conditions"]:
        item["lastTransitionTime"] = "2027-01-01T00:00:00Z"
    second = status_of(age=999.0, known=FRESH | {"status": first})
    times = {item["type"]: item["lastTransitionTime"] for item in second["conditions"]}
    assert times == {"Ready": NOW, "UpToDate": "2027-01-01T00:00:00Z"}


def test_in_an_outage_conditions_are_unknown_and_the_last_report_stays() -> None:
    status = unknown_status(FRESH | {"status": status_of()}, Reason.STORAGE_UNAVAILABLE, "no answer", now=NOW)
    assert condition(status, "Ready") == ("Unknown", "StorageUnavailable", "no answer")
    assert condition(status, "UpToDate")[0] == "Unknown"
    assert status["release"] == "note-v3"


def test_a_long_problem_fits_into_a_condition() -> None:
    report = replace(REPORT, release=None, error="x" * 1024)
    assert len(condition(status_of(report, newest=9), "Ready")[2]) == 1024


@pytest.mark.parametrize(
    ("rollout", "reason", "text"),
    [
        ("waiting", "Waiting", "the device is in wave 2"),
        ("paused", "RolloutPaused", "the roll-out is paused, the device is in wave 2"),
        ("halted", "RolloutHalted", "the roll-out is halted, the device is in wave 2"),
    ],
)
def test_a_device_that_waits_for_its_turn_says_so(rollout: str, reason: str, text: str) -> None:
    status = status_of(replace(REPORT, desired_version=4, wave=2, rollout=rollout))
    assert (status["wave"], status["rollout"]) == (2, rollout)
    message = f"it runs v3; channel stable of note is at v4: {text}"
    assert condition(status, "UpToDate") == ("False", reason, message)


def test_a_version_that_failed_on_the_device_is_refused_whatever_the_roll_out_says() -> None:
    report = replace(REPORT, desired_version=4, failed_version=4, wave=1, rollout="halted", error="NaN")
    status = status_of(report)
    assert status["failedVersion"] == 4
    assert condition(status, "UpToDate")[1] == "Refused"
