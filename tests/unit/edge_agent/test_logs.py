"""The agent's log on a card that every line wears: what repeats itself, and what a clean stop says."""

import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll_edge.demo import free_ports
from atoll_edge.logs import MAX_MESSAGES, REPEAT_SECONDS, RepetitionFilter
from support.edge_model import write_model
from support.polling import wait_until

pytestmark = pytest.mark.timeout(120)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def handler(clock: Clock) -> Iterator[Lines]:
    made = Lines()
    made.addFilter(RepetitionFilter(clock))
    logger = logging.getLogger("test.repeats")
    logger.setLevel(logging.INFO)
    logger.addHandler(made)
    yield made
    logger.removeHandler(made)


def test_E20_what_repeats_itself_is_said_once_a_minute_with_its_count(handler: Lines, clock: Clock) -> None:
    log = logging.getLogger("test.repeats")
    for _ in range(41):
        log.error("the camera on %s does not answer", "/dev/video0")
    log.error("the camera on %s does not answer", "/dev/video2")
    clock.now += REPEAT_SECONDS
    log.error("the camera on %s does not answer", "/dev/video0")
    assert handler.lines == [
        "the camera on /dev/video0 does not answer",
        "the camera on /dev/video2 does not answer",
        "the camera on /dev/video0 does not answer (40 more times since the last line)",
    ]


def test_E20_the_memory_of_messages_is_bounded_and_forgets_the_oldest(handler: Lines) -> None:
    log = logging.getLogger("test.repeats")
    for number in range(MAX_MESSAGES + 1):
        log.info("message %d", number)
    log.info("message %d", MAX_MESSAGES)
    log.info("message %d", 0)
    assert len(handler.lines) == MAX_MESSAGES + 2
    assert handler.lines[-1] == "message 0"


def agent_command(folder: Path, *options: str) -> list[str]:
    model, labels = write_model(folder)
    (http,) = free_ports(1)
    settings = folder / "config.yaml"
    settings.write_text(f"streams: {{enabled: false}}\nhttp: {{port: {http}}}\nstateDir: {folder / 'device'}\n")
    run = [sys.executable, "-P", "-m", "atoll_edge.cli", "run", "--config", str(settings)]
    return [*run, "--model", str(model), "--labels", str(labels), "--nt-server", "127.0.0.1:1", *options]


def stopped(command: list[str], log: Path, says: str) -> tuple[int, str]:
    """Runs an agent in a group of its own, until its log says so; then the whole group gets SIGTERM."""
    with log.open("wb") as stderr:
        agent = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True)
    try:
        wait_until(lambda: says in log.read_text(), what=f"{says!r} in the log", timeout_seconds=60)
        os.killpg(agent.pid, signal.SIGTERM)
        return agent.wait(30), log.read_text()
    finally:
        agent.kill()
        agent.wait()


def test_a_stop_by_sigterm_to_all_of_its_processes_logs_no_error(tmp_path: Path) -> None:
    code, text = stopped(agent_command(tmp_path, "--video", "synthetic"), tmp_path / "log", "serves on cpu")
    assert code == 0
    assert "stopping after" in text
    assert not re.findall(r"ERROR.*|WARNING.*|Traceback.*", text)


def test_E20_a_camera_that_is_away_takes_few_lines(tmp_path: Path) -> None:
    """cscore alone says it at each try, several times a second."""
    (closed,) = free_ports(1)
    command = agent_command(tmp_path, "--video", f"http://127.0.0.1:{closed}/stream.mjpg")
    log = tmp_path / "log"
    code, text = stopped(command, log, "Connection refused")
    assert code == 0
    assert "CS:" not in text
    assert text.count("Connection refused") == 1
