"""`atoll ui` as a user starts and ends it."""

import os
import re
import signal
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from atoll_cli.ui.server import TOKEN_HEADER
from support.polling import wait_until

ATOLL = [sys.executable, "-P", "-m", "atoll_cli.main", "ui", "--port", "0"]
# A browser that records the address which it is started with.
BROWSER = "#!/bin/sh\necho \"$1\" > '{folder}/opened'\n"


@pytest.mark.timeout(200)
def test_it_prints_an_address_opens_it_in_private_and_ends_cleanly(tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(BROWSER.format(folder=tmp_path))
    browser.chmod(0o755)
    environ = {**os.environ, "BROWSER": str(browser)}
    process = subprocess.Popen(
        ATOLL, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        found = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/#(\S+)\n", process.stdout.readline())
        assert found is not None
        address, token = found.groups()
        request = urllib.request.Request(f"{address}/api/state", headers={TOKEN_HEADER: token})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200
        opened = wait_until(lambda: (tmp_path / "opened").is_file() and (tmp_path / "opened").read_text(), what="it")
        file = Path(str(opened).strip().removeprefix("file://"))
        assert token not in str(opened)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert f"{address}/#{token}" in file.read_text()
    finally:
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=120)
    assert process.returncode == 0
    assert not file.exists()
    assert "Traceback" not in complaints


def test_a_port_that_is_taken_is_reported(tmp_path: Path) -> None:
    first = subprocess.Popen([*ATOLL, "--no-open"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None
        port = first.stdout.readline().rpartition(":")[2].partition("/")[0]
        command = [*ATOLL[:-1], port, "--no-open"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)
    finally:
        first.send_signal(signal.SIGTERM)
        first.communicate(timeout=50)
    assert done.returncode == 20
    assert f"port {port} of this machine cannot be used" in done.stderr
