"""The handlers of the page, over HTTP, with real archives and real processes."""

import http.client
import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from atoll_cli.draft.targets import NO_WEIGHTS
from atoll_cli.ui.datasets import MAX_BYTES
from atoll_cli.ui.server import TOKEN_HEADER
from atoll_contract import keys
from atoll_contract.store import directory_store, open_store
from support import archives
from support.local_page import LocalPage, run_text
from support.polling import wait_until

pytestmark = pytest.mark.timeout(300)

PICTURES = archives.tar_bytes(archives.supervisely(12, labels=("coral", "algae")))


def uploads(page: LocalPage) -> list[Path]:
    return sorted((page.store / ".atoll/ui/uploads").glob("*"))


def test_an_archive_is_inspected_and_stored(page: LocalPage) -> None:
    taken = page.run_task("/api/archives?name=reef.tar", PICTURES)
    assert taken["lint"]["message"] == "12 pictures, 24 boxes, 2 classes"
    assert (page.store / keys.dataset("local", "reef.tar")).read_bytes() == PICTURES
    (listed,) = page.request("/api/state")["archives"]
    assert listed["lint"] == taken["lint"]
    assert uploads(page) == []


def test_an_archive_that_a_run_would_refuse_is_not_kept(page: LocalPage) -> None:
    refused = page.run_task("/api/archives?name=broken.tar", PICTURES[:5000])
    assert refused["state"] == "refused"
    assert refused["reason"] == "DatasetMalformed"
    assert refused["error"].startswith("broken.tar: ")
    assert page.request("/api/state")["archives"] == []
    assert uploads(page) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../../etc/x.tar", "call it by letters"),
        ("..%2Fx.tar", "call it by letters"),
        (".hidden.tar", "call it by letters"),
        ("", "call it by letters"),
        ("notes.txt", "is no archive"),
        ("a" * 200 + ".tar", "call it by letters"),
    ],
)
def test_an_upload_cannot_choose_its_folder_or_its_type(page: LocalPage, name: str, message: str) -> None:
    answer = page.request(f"/api/archives?name={name}", PICTURES)
    assert message in answer["error"]
    assert uploads(page) == []


def sent(page: LocalPage, length: int, body: bytes) -> tuple[int, dict[str, str]]:
    """An upload that claims `length` bytes and ends after `body`."""
    connection = http.client.HTTPConnection("127.0.0.1", page.server.guard.port, timeout=30)
    connection.putrequest("POST", "/api/archives?name=reef.tar")
    connection.putheader("Content-Length", str(length))
    connection.putheader(TOKEN_HEADER, page.server.guard.token)
    connection.endheaders(body)
    assert connection.sock is not None
    connection.sock.shutdown(1)
    answer = connection.getresponse()
    document = json.loads(answer.read())
    connection.close()
    return answer.status, document


def test_too_large_an_upload_is_refused_before_it_is_read(page: LocalPage) -> None:
    status, answer = sent(page, MAX_BYTES + 1, b"")
    assert (status, answer["reason"]) == (422, "DatasetTooLarge")


def test_an_upload_that_breaks_off_leaves_nothing(page: LocalPage) -> None:
    status, answer = sent(page, len(PICTURES), PICTURES[:3000])
    assert status == 422
    assert "the browser went away" in answer["error"]
    assert uploads(page) == []


def test_a_draft_is_valid(page: LocalPage) -> None:
    page.plan(train={"steps": 30, "seconds": 0.1})
    page.start("first")
    page.wait_for("first", "Succeeded")
    page.run_task("/api/archives?name=reef.tar", PICTURES)
    draft = page.run_task("/api/drafts", {"archives": ["reef.tar"]})
    assert draft["run"] == "reef"
    assert "as in run first" in draft["basis"]
    assert draft["timed"]
    known = {"problems": [], "steps": draft["steps"], "settings": draft["settings"]}
    assert page.request("/api/checks", {"text": draft["text"]}) == known
    going_on = page.run_task("/api/drafts", {"archives": ["reef.tar"], "from": "note-v1"})
    assert "type: release, releaseRef: { name: note-v1 }" in going_on["text"]


def test_a_draft_does_not_wait_for_its_timing_which_can_be_skipped(page: LocalPage) -> None:
    page.run_task("/api/archives?name=reef.tar", PICTURES)
    wanted = {"archives": ["reef.tar"]}
    draft = page.run_task("/api/drafts", wanted)
    assert "kind: TrainingRun" in draft["text"]
    assert (draft["timed"], draft["basis"]) == (False, "no run with these settings has ended here yet")
    timing = page.request("/api/timings", wanted)
    state = f"/api/errands/{timing['task']}"
    wait_until(lambda: "timing a few" in page.request(state).get("message", ""), what="timing", timeout_seconds=60)
    assert page.request("/api/timings/skip", {}) == {}
    wait_until(lambda: page.request(state)["state"] == "done", what="the end of the timing", timeout_seconds=60)
    ended = page.request(state)
    assert (ended["timed"], ended["basis"]) == (False, "the timing was skipped")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"archives": []}, "choose an archive"),
        ({"archives": ["none.tar"]}, "there is no none.tar"),
        ({"archives": ["../x.tar"]}, "call it by"),
    ],
)
def test_a_draft_without_archive_is_refused(page: LocalPage, document: dict[str, list[str]], message: str) -> None:
    assert message in page.run_task("/api/drafts", document)["error"]


def test_a_draft_never_starts_from_random_weights_unasked(page: LocalPage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rule as for `atoll new`, in the same words."""
    monkeypatch.delenv("ATOLL_WEIGHTS_DIR")
    page.run_task("/api/archives?name=reef.tar", PICTURES)
    refused = page.run_task("/api/drafts", {"archives": ["reef.tar"]})
    assert (refused["error"], refused["reason"]) == (NO_WEIGHTS, "WeightsNotFound")
    asked_for = page.run_task("/api/drafts", {"archives": ["reef.tar"], "from": "random"})
    assert "initFrom: { type: random }" in asked_for["text"]


def test_problems_of_a_file_are_reported_line_by_line(page: LocalPage) -> None:
    problems = page.request("/api/checks", {"text": "kind: [\n"})["problems"]
    assert problems[0].startswith("run.yaml:")
    answer = page.request(
        "/api/runs", {"text": "apiVersion: atoll.dev/v1alpha1\nkind: TrainingRun\nmetadata: {}\nspec: {}\n"}
    )
    assert answer["reason"] == "InvalidSpec"
    assert "spec.datasets" in answer["error"]


def test_a_run_that_the_page_would_not_show_is_refused(page: LocalPage) -> None:
    text = run_text("one").replace("name: one", "name: one, namespace: team-190")
    assert "this page shows local" in page.request("/api/runs", {"text": text})["error"]


def test_runs_follow_each_other_and_each_has_its_curve(page: LocalPage) -> None:
    page.plan(train={"steps": 40, "seconds": 0.05})
    for name in ("one", "two"):
        assert page.start(name) == {"run": name}
    wait_until(lambda: page.request("/api/runs/one").get("curve"), what="a curve", timeout_seconds=60)
    assert page.state_of("two") == "Queued"
    page.wait_for("one", "Succeeded")
    page.wait_for("two", "Succeeded")
    run = page.request("/api/runs/two")
    assert [stage["name"] for stage in run["stages"]] == ["convert", "train", "export", "compile", "publish"]
    assert [point["step"] for point in run["curve"]] == list(range(1, 41))
    assert run["curve"][-1]["loss"] == pytest.approx(1 / 40, abs=1e-3)
    assert [item["release"] for item in page.request("/api/state")["releases"]] == ["note-v1", "note-v2"]


def test_bar_sentence_and_curve_name_the_same_step(page: LocalPage) -> None:
    page.plan(train={"steps": 60, "seconds": 0.05})
    page.start("one")
    seen = []

    def ended() -> bool:
        run = page.request("/api/runs/one")
        told = re.match(r"step (\d+)/60, ", run.get("message", ""))
        if told and run["working"]:
            step = int(told[1])
            assert run["curve"][-1]["step"] == step
            assert run["percent"] == int(8 + 76 * step / 60)
            seen.append(step)
        return bool(run.get("ended"))

    wait_until(ended, what="the end", timeout_seconds=200)
    # The engine writes progress down every 30 s only; the page does not wait for that.
    assert len(set(seen)) > 3


def test_the_log_of_a_stage_is_shown_from_its_end(page: LocalPage) -> None:
    page.plan(train={"steps": 500})
    page.start("one")
    page.wait_for("one", "Succeeded")
    log = page.request("/api/runs/one/log?stage=train")
    assert log["stages"] == ["convert", "train", "export", "publish"]
    assert len(log["lines"]) == 300
    assert any(line.startswith("100%  step 500/500") for line in log["lines"])
    assert page.request("/api/runs/one/log")["stage"] == "publish"
    assert "there is no stage '../x'" in page.request("/api/runs/one/log?stage=../x")["error"]


def test_a_suspended_run_resumes_from_its_checkpoint(page: LocalPage) -> None:
    page.plan(train={"steps": 100, "seconds": 0.05})
    page.start("one")
    wait_until(lambda: page.request("/api/runs/one").get("curve"), what="a curve", timeout_seconds=60)
    assert page.request("/api/runs/one/suspend", {}) == {}
    states = []

    def rests() -> bool:
        states.append(page.state_of("one"))
        return states[-1] == "Suspended"

    wait_until(rests, what="Suspended", timeout_seconds=60)
    assert set(states) <= {"Training", "Suspending", "Suspended"}
    reached = len(page.request("/api/runs/one")["curve"])
    page.plan(train={"steps": 100})
    assert page.request("/api/runs/one/resume", {}) == {}
    page.wait_for("one", "Succeeded")
    steps = [point["step"] for point in page.request("/api/runs/one")["curve"]]
    assert 0 < reached < 100
    assert steps == list(range(1, 101))


def test_a_running_or_suspended_run_is_cancelled(page: LocalPage) -> None:
    page.plan(train={"steps": 1000, "seconds": 0.05})
    for name in ("one", "two"):
        page.start(name)
        wait_until(lambda name=name: page.request(f"/api/runs/{name}").get("curve"), what="a curve", timeout_seconds=60)  # type: ignore[misc]
        if name == "two":
            page.request("/api/runs/two/suspend", {})
            page.wait_for("two", "Suspended")
        assert page.request(f"/api/runs/{name}/cancel", {}) == {}
        page.wait_for(name, "Cancelled")
        train = page.request(f"/api/runs/{name}")["stages"][1]
        assert (train["name"], train["phase"]) == ("train", "Cancelled")
    assert "has ended already" in page.request("/api/runs/one/cancel", {})["error"]


def test_a_process_with_the_id_of_a_killed_engine_is_not_taken_for_one(page: LocalPage) -> None:
    page.plan(train={"steps": 1000, "seconds": 0.05})
    page.start("one")
    wait_until(lambda: page.request("/api/runs/one").get("curve"), what="a curve", timeout_seconds=60)
    pid = page.store / ".atoll/engine/local/one/engine.pid"
    assert page.request("/api/runs/one")["working"]
    os.kill(int(pid.read_text()), signal.SIGKILL)
    page.wait_for("one", "Interrupted")
    with subprocess.Popen(["sleep", "300"]) as unrelated:
        try:
            pid.write_text(f"{unrelated.pid}\n")
            assert not page.request("/api/runs/one")["working"]
            assert page.state_of("one") == "Interrupted"
            assert page.request("/api/runs/one/cancel", {}) == {}
            page.wait_for("one", "Cancelled")
        finally:
            unrelated.kill()


def test_a_run_is_taken_out_of_the_queue(page: LocalPage) -> None:
    page.plan(train={"steps": 1000, "seconds": 0.05})
    page.start("one")
    page.start("two")
    assert "in the queue already" in page.start("two")["error"]
    assert page.request("/api/runs/two/suspend", {}) == {}
    assert page.state_of("two") == ""
    assert "there is no run two" in page.request("/api/runs/two/suspend", {})["error"]


def test_a_run_of_a_terminal_is_suspended_from_the_page(page: LocalPage) -> None:
    page.plan(train={"steps": 1000, "seconds": 0.05})
    page.start("one")
    with LocalPage(page.folder) as other:
        wait_until(lambda: other.request("/api/runs/one").get("curve"), what="a curve", timeout_seconds=60)
        assert other.request("/api/runs/one/suspend", {}) == {}
        other.wait_for("one", "Suspended")
        wait_until(lambda: not other.request("/api/runs/one")["working"], what="its end", timeout_seconds=60)
        assert "is not at work" in other.request("/api/runs/one/suspend", {})["error"]


def test_a_failed_run_has_its_reason_and_is_retried(page: LocalPage) -> None:
    page.plan(train={"fail": "TrainingDiverged", "times": 1})
    page.start("one")
    page.wait_for("one", "Failed")
    assert "fails by plan" in page.request("/api/runs/one")["message"]
    page.request("/api/runs/one/resume", {})
    page.wait_for("one", "Succeeded")
    assert "a run one already" in page.start("one")["error"]


def test_a_run_that_cannot_begin_has_its_reason(page: LocalPage) -> None:
    text = (
        "apiVersion: atoll.dev/v1alpha1\nkind: TrainingRun\nmetadata: { name: lost }\nspec:\n"
        "  datasets: [{ key: datasets/local/pictures.tar }]\n  publish: { model: note }\n"
        "  training: { initFrom: { type: release, releaseRef: { name: note-v9 } } }\n"
    )
    page.request("/api/runs", {"text": text})
    page.wait_for("lost", "Failed")
    (run,) = page.request("/api/state")["runs"]
    assert "there is no release note-v9" in run["message"]


def deleted(page: LocalPage, name: str) -> bool:
    """Once the process of the run is over, which ends a moment after the run."""
    answer = page.request(f"/api/runs/{name}/delete", {})
    assert not answer or "is at work" in answer["error"], answer
    return not answer


def test_a_deleted_run_leaves_its_release(page: LocalPage) -> None:
    page.plan(train={"steps": 3})
    for name in ("one", "two"):
        page.start(name)
        page.wait_for(name, "Succeeded")
    wait_until(lambda: deleted(page, "one"), what="deletion", timeout_seconds=60)
    state = page.request("/api/state")
    assert [item["name"] for item in state["runs"]] == ["two"]
    assert [item["release"] for item in state["releases"]] == ["note-v1", "note-v2"]
    bundle = page.request("/api/releases/note-v1/bundle", {})["path"]
    assert page.send(bundle, headers={})[0] == 200
    store = open_store(directory_store(page.store))
    assert len({info.key.split("/")[2] for info in store.list(keys.runs_prefix("local"))}) == 1
    assert not (page.store / ".atoll/engine/local/one").exists()
    assert not list((page.store / ".atoll/ui/runs").glob("one.*"))
    assert "there is no run one" in page.request("/api/runs/one/delete", {})["error"]
    # The name is free again.
    page.start("one")
    page.wait_for("one", "Succeeded")


def test_only_a_run_that_has_ended_is_deleted(page: LocalPage) -> None:
    page.plan(train={"steps": 1000, "seconds": 0.05})
    page.start("one")
    wait_until(lambda: page.request("/api/runs/one").get("curve"), what="a curve", timeout_seconds=60)
    assert "is at work" in page.request("/api/runs/one/delete", {})["error"]
    assert page.handlers.close() == "one"
    assert "run one has not ended (Suspended)" in page.request("/api/runs/one/delete", {})["error"]
    assert page.state_of("one") == "Suspended"


def test_closing_the_page_suspends_its_run(page: LocalPage) -> None:
    page.plan(train={"steps": 1000, "seconds": 0.05})
    page.start("one")
    wait_until(lambda: page.request("/api/runs/one").get("curve"), what="a curve", timeout_seconds=60)
    assert page.handlers.close() == "one"
    assert page.state_of("one") == "Suspended"


def test_report_and_bundle_have_addresses_of_their_own(page: LocalPage) -> None:
    page.start("one")
    page.wait_for("one", "Succeeded")
    report = page.request("/api/runs/one/report", {})["path"]
    connection = http.client.HTTPConnection("127.0.0.1", page.server.guard.port, timeout=30)
    connection.request("GET", report)
    answer = connection.getresponse()
    assert (answer.status, len(answer.read())) == (200, 32)
    # A report shows what stood in somebody's archive: it may show, and do nothing.
    assert answer.getheader("Content-Security-Policy", "").startswith("sandbox; default-src 'none'")
    connection.close()
    bundle = page.request("/api/releases/note-v1/bundle", {})["path"]
    assert bundle.endswith("/model.tar.gz")
    assert page.send(bundle, headers={})[0] == 200
    assert page.send(bundle[:-20] + "model.tar.gz", headers={})[0] == 403
    assert "no release" in page.request("/api/releases/note/bundle", {})["error"]


def test_two_releases_are_compared(page: LocalPage) -> None:
    for name in ("one", "two"):
        page.start(name)
        page.wait_for(name, "Succeeded")
    pair = page.request("/api/comparison?old=note-v1&new=note-v2")
    assert pair["figures"][0] == {"name": "AP50 of the exported model", "old": 0.88, "new": 0.88}
    assert {"name": "Run", "old": "one", "new": "two"} in pair["facts"]
    assert "there is no release note-v7" in page.request("/api/comparison?old=note-v1&new=note-v7")["error"]


def test_the_page_works_with_a_damaged_manifest(page: LocalPage) -> None:
    path = page.store / keys.manifest("local", "note", 1)
    path.parent.mkdir(parents=True)
    path.write_text("{")
    state = page.request("/api/state")
    assert state["releases"] == []
    assert "manifest.json" in state["problem"]
