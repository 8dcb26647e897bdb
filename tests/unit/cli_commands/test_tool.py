"""Programs that the command line runs: what they say, how they fail, and that none is left behind."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from atoll_cli.tool import run_tool
from atoll_contract.errors import AtollError, Reason, SpecError
from support.polling import wait_until

Tool = Callable[[str], str]


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    """Writes a module that the command line can run; its name."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(text: str) -> str:
        (tmp_path / "little_tool.py").write_text(textwrap.dedent(text))
        return "little_tool"

    return write


def call(module: str, *arguments: str, silence_seconds: float = 50) -> dict[str, object]:
    return run_tool(module, arguments, title="working", silence_seconds=silence_seconds)


def test_the_document_is_read_however_much_is_on_standard_error(tool: Tool) -> None:
    module = tool(
        """
        import json, sys
        for n in range(20_000):
            print("a line that fills the pipe", n, file=sys.stderr)
        print(json.dumps({"given": sys.argv[1:], "long": "x" * 200_000}))
        """
    )
    document = call(module, "--flag", "ä")
    assert document["given"] == ["--flag", "ä"]
    assert len(str(document["long"])) == 200_000


def test_a_refusal_keeps_its_reason(tool: Tool) -> None:
    module = tool("""print('{"reason": "DatasetMalformed", "message": "no video"}'); raise SystemExit(13)""")
    with pytest.raises(AtollError, match="no video") as raised:
        call(module)
    assert raised.value.reason is Reason.DATASET_MALFORMED


def test_a_missing_package_is_reported_with_how_to_install_it(tool: Tool) -> None:
    with pytest.raises(SpecError, match=r"No module named 'nowhere'.*pip install 'atoll\[laptop\]'"):
        call(tool("import nowhere"))


def test_a_full_disk_is_no_missing_package(tool: Tool) -> None:
    with pytest.raises(AtollError, match="the disk is full; free some space") as raised:
        call(tool("raise OSError(28, 'No space left on device')"))
    assert raised.value.reason is Reason.EPHEMERAL_STORAGE_EXCEEDED
    with pytest.raises(SpecError, match=r"RuntimeError: broken$"):
        call(tool("raise RuntimeError('broken')"))


def test_a_crash_is_reported_with_its_signal(tool: Tool) -> None:
    module = tool("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(AtollError, match=r"crashed \(signal 11\)") as raised:
        call(module)
    assert raised.value.reason is Reason.INTERNAL_ERROR


def test_a_tool_that_hangs_is_ended(tool: Tool, tmp_path: Path) -> None:
    module = tool(
        """
        import os, pathlib, sys, time
        pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
        time.sleep(3600)
        """
    )
    with pytest.raises(SpecError, match="said nothing for 3 s and was ended"):
        call(module, str(tmp_path / "pid"), silence_seconds=3)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_ctrl_c_waits_for_the_tool_to_clean_up(tool: Tool, tmp_path: Path) -> None:
    module = tool(
        """
        import pathlib, sys, time
        folder = pathlib.Path(sys.argv[1])
        try:
            (folder / "begun").touch()
            time.sleep(3600)
        except KeyboardInterrupt:
            (folder / "cleaned").touch()
            raise SystemExit(32)
        """
    )
    code = f"from atoll_cli.tool import run_tool; run_tool({module!r}, [{str(tmp_path)!r}], title='working')"
    parent = subprocess.Popen([sys.executable, "-P", "-c", code], start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: (tmp_path / "begun").exists(), what="the tool", timeout_seconds=50)
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.wait(50) != 0
    finally:
        parent.kill()
        parent.wait()
    assert (tmp_path / "cleaned").exists()
