"""`atoll logs` of pods that live, from an API server that the test scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from atoll_cli.commands import logs
from atoll_cli.commands.logs import Tail
from atoll_cli.main import main
from support.scripted_api import ScriptedApi

RUNS = "/apis/atoll.dev/v1alpha1/namespaces/team/trainingruns"
PODS = "/api/v1/namespaces/team/pods"


@pytest.fixture
def api() -> Iterator[ScriptedApi]:
    with ScriptedApi() as server:
        yield server


def run(phase: str, *, running: str | None = None, done: tuple[str, ...] = ()) -> dict[str, Any]:
    stages = [{"name": name, "phase": "Succeeded", "attempts": 1} for name in done]
    if running:
        stages.append({"name": running, "phase": "Running", "attempts": 1})
    metadata = {"name": "note", "namespace": "team", "uid": "run-uid", "creationTimestamp": "2027-01-09T19:00:00Z"}
    return {"metadata": metadata, "spec": {}, "status": {"phase": phase, "stages": stages}}


def pod(stage: str, phase: str, *, second: int) -> dict[str, Any]:
    labels = {"atoll.dev/stage": stage, "atoll.dev/attempt": "1", "atoll.dev/run-uid": "run-uid"}
    metadata = {
        "name": f"note-{stage}",
        "uid": f"{stage}-uid",
        "labels": labels,
        "creationTimestamp": f"2027-01-09T19:00:{second:02d}Z",
    }
    containers = [{"name": "stage"}, {"name": "injected"}]
    return {"metadata": metadata, "spec": {"containers": containers}, "status": {"phase": phase}}


def shared_pod(*, train: str, export: str) -> dict[str, Any]:
    """A pod of train and export; each word is the state of a container, `waiting`, `running` or `terminated`."""
    body = pod("train", "Succeeded" if export == "terminated" else "Pending", second=9)
    body["metadata"]["labels"] |= {"atoll.dev/following": "export-3"}
    body["spec"] = {"initContainers": [{"name": "train"}], "containers": [{"name": "export"}, {"name": "injected"}]}
    for kind, name, state in (("initContainer", "train", train), ("container", "export", export)):
        body["status"][f"{kind}Statuses"] = [{"name": name, "state": {state: {}}}]
    return body


def lines(*numbered: tuple[int, str]) -> str:
    return "".join(f"2027-01-09T19:01:{second:02d}.000000000Z {text}\n" for second, text in numbered)


class StepLog:
    """A run that goes on with every look at it; a step is the run, its pods, and their logs."""

    def __init__(self, api: ScriptedApi, steps: list[tuple[Any, list[Any], dict[str, str]]]) -> None:
        self._steps = steps
        self._looks = -1
        api.answers[f"{RUNS}/note"] = self._run
        api.answers[PODS] = lambda _: (200, {"items": self._now[1], "metadata": {}})
        for stage in ("convert", "train"):
            api.answers[f"{PODS}/note-{stage}/log"] = partial(self._log, stage)

    @property
    def _now(self) -> tuple[Any, list[Any], dict[str, str]]:
        return self._steps[min(self._looks, len(self._steps) - 1)]

    def _run(self, query: Mapping[str, str]) -> tuple[int, Any]:
        self._looks += 1
        found = self._now[0]
        return (200, found) if isinstance(found, dict) else (found, {"message": "try later"})

    def _log(self, stage: str, query: Mapping[str, str]) -> tuple[int, Any]:
        assert query["container"] == "stage"
        if stage not in self._now[2]:
            return 400, {"message": "container is waiting to start"}
        # As the kubelet may: the whole second in which the last line was written comes again.
        since = query.get("sinceTime", "")[:19]
        return 200, "".join(line for line in self._now[2][stage].splitlines(keepends=True) if line[:19] >= since)


def test_follow_goes_from_stage_to_stage_and_prints_each_line_once(
    api: ScriptedApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logs, "INTERVAL_SECONDS", 0.0)
    first, second = (1, "reading"), (1, "reading")
    third, fourth = (1, "reading more"), (2, "done")
    steps: list[tuple[Any, list[Any], dict[str, str]]] = [
        (run("Pending"), [], {}),
        (run("Converting", running="convert"), [pod("convert", "Pending", second=1)], {}),
        (run("Converting", running="convert"), [pod("convert", "Running", second=1)], {"convert": lines(first)}),
        (503, [], {}),
        (
            run("Converting", running="convert"),
            [pod("convert", "Running", second=1)],
            {"convert": lines(first, second, third)},
        ),
        (
            run("Training", running="train", done=("convert",)),
            [pod("convert", "Succeeded", second=1), pod("train", "Running", second=9)],
            {"convert": lines(first, second, third, fourth), "train": lines((5, "step 1"))},
        ),
        (
            run("Succeeded", done=("convert", "train")),
            [pod("train", "Succeeded", second=9)],
            {"train": lines((5, "step 1"), (6, "step 2"))},
        ),
    ]
    StepLog(api, steps)
    kubeconfig = api.write_kubeconfig(tmp_path / "config")
    assert main(["logs", "note", "-f", "--kubeconfig", str(kubeconfig)]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == ["reading", "reading", "reading more", "done", "step 1", "step 2"]
    assert [line for line in printed.err.splitlines() if line.startswith("==")] == [
        "== convert, attempt 1, pod note-convert",
        "== train, attempt 1, pod note-train",
    ]


def test_follow_of_one_stage_ends_with_the_stage(
    api: ScriptedApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logs, "INTERVAL_SECONDS", 0.0)
    done = [pod("convert", "Succeeded", second=1), pod("train", "Running", second=9)]
    StepLog(
        api,
        [
            (run("Converting", running="convert"), [pod("convert", "Running", second=1)], {"convert": lines((1, "a"))}),
            (run("Converting", running="convert"), [pod("convert", "Running", second=1)], {"convert": lines((1, "a"))}),
            (
                run("Training", running="train", done=("convert",)),
                done,
                {"convert": lines((1, "a"), (2, "b")), "train": lines((5, "c"))},
            ),
        ],
    )
    kubeconfig = str(api.write_kubeconfig(tmp_path / "config"))
    assert main(["logs", "note", "-f", "--stage", "convert", "--kubeconfig", kubeconfig]) == 0
    assert capsys.readouterr().out.splitlines() == ["a", "b"]


def test_without_follow_the_running_stage_is_printed(
    api: ScriptedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pods = [pod("convert", "Succeeded", second=1), pod("train", "Running", second=9)]
    texts = {"convert": lines((1, "reading")), "train": lines((5, "step 1"))}
    StepLog(api, [(run("Training", running="train", done=("convert",)), pods, texts)])
    kubeconfig = str(api.write_kubeconfig(tmp_path / "config"))
    assert main(["logs", "note", "--kubeconfig", kubeconfig]) == 0
    assert capsys.readouterr().out == "step 1\n"
    assert main(["logs", "note", "--stage", "convert", "--kubeconfig", kubeconfig]) == 0
    assert capsys.readouterr().out == "reading\n"


def test_a_forbidden_log_is_reported(api: ScriptedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    StepLog(api, [(run("Training", running="train"), [pod("train", "Running", second=9)], {})])
    api.answers[f"{PODS}/note-train/log"] = lambda _: (403, {"message": 'pods "note-train" is forbidden'})
    assert main(["logs", "note", "--kubeconfig", str(api.write_kubeconfig(tmp_path / "config"))]) == 1
    assert 'get pods/log team/note-train: pods "note-train" is forbidden' in capsys.readouterr().err


def test_a_run_that_has_not_started_has_no_log(
    api: ScriptedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    StepLog(api, [(run("Pending"), [], {})])
    assert main(["logs", "note", "--kubeconfig", str(api.write_kubeconfig(tmp_path / "config"))]) == 20
    assert "-f waits for one" in capsys.readouterr().err


def test_a_tail_counts_lines_of_the_same_time() -> None:
    tail = Tail()
    assert tail.new(lines((1, "a"), (2, "b"), (2, "c"))) == ["a", "b", "c"]
    assert tail.new(lines((1, "a"), (2, "b"), (2, "c"), (2, "d"), (3, "e"))) == ["d", "e"]
    assert tail.new(lines((3, "e"))) == []


class SharedPod:
    """A run whose pod of train and export goes on with every look; a step has the logs of its containers."""

    def __init__(self, api: ScriptedApi, steps: list[tuple[Any, Any, dict[str, str]]]) -> None:
        self._steps = steps
        self._looks = -1
        api.answers[f"{RUNS}/note"] = self._run
        api.answers[PODS] = lambda _: (200, {"items": [self._now[1]], "metadata": {}})
        api.answers[f"{PODS}/note-train/log"] = self._log

    @property
    def _now(self) -> tuple[Any, Any, dict[str, str]]:
        return self._steps[min(self._looks, len(self._steps) - 1)]

    def _run(self, query: Mapping[str, str]) -> tuple[int, Any]:
        self._looks += 1
        return 200, self._now[0]

    def _log(self, query: Mapping[str, str]) -> tuple[int, Any]:
        text = self._now[2].get(query["container"])
        return (200, text) if text is not None else (400, {"message": "container is waiting to start"})


def both(api: ScriptedApi) -> None:
    train, export = run("Training", running="train"), run("Exporting", running="export", done=("train",))
    first = (train, shared_pod(train="running", export="waiting"), {"train": lines((5, "step 1"))})
    SharedPod(
        api,
        [
            first,
            first,
            (
                export,
                shared_pod(train="terminated", export="running"),
                {"train": lines((5, "step 1"), (6, "step 2")), "export": lines((9, "int8"))},
            ),
            (
                run("Succeeded", done=("train", "export")),
                shared_pod(train="terminated", export="terminated"),
                {"train": lines((5, "step 1"), (6, "step 2")), "export": lines((9, "int8"), (10, "done"))},
            ),
        ],
    )


def test_follow_goes_from_container_to_container_of_one_pod(
    api: ScriptedApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logs, "INTERVAL_SECONDS", 0.0)
    both(api)
    kubeconfig = str(api.write_kubeconfig(tmp_path / "config"))
    assert main(["logs", "note", "-f", "--kubeconfig", kubeconfig]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == ["step 1", "step 2", "int8", "done"]
    assert [line for line in printed.err.splitlines() if line.startswith("==")] == [
        "== train, attempt 1, pod note-train",
        "== export, attempt 3, pod note-train",
    ]


def test_a_stage_that_shares_a_pod_has_its_own_log(
    api: ScriptedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both(api)
    kubeconfig = str(api.write_kubeconfig(tmp_path / "config"))
    assert main(["logs", "note", "--stage", "train", "--kubeconfig", kubeconfig]) == 0
    assert capsys.readouterr().out.splitlines() == ["step 1"]
