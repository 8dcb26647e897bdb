"""`make audit` asks for every lock, and takes no answer for none."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted(
    str(path.relative_to(ROOT))
    for folder in ("docs", "images", "tests")
    for path in (ROOT / folder).rglob("requirements*.txt")
)
# Writes its arguments down, and fails for the lock that VULNERABLE names.
PROGRAM = """#!/bin/sh
echo "$*" >> "$0.calls"
for last; do :; done
[ "$last" != "$VULNERABLE" ]
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "pip-audit"
    path.write_text(PROGRAM)
    path.chmod(0o755)
    return path


def audit(program: Path, *, vulnerable: str = "") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PIP_AUDIT": str(program), "VULNERABLE": vulnerable}
    return subprocess.run(
        [ROOT / ".ci" / "audit"], capture_output=True, text=True, timeout=50, env=environment, check=False
    )


def test_every_lock_is_audited_and_an_unanswered_version_is_none_that_is_sound(program: Path) -> None:
    done = audit(program)
    assert done.returncode == 0, done.stderr
    calls = Path(f"{program}.calls").read_text().splitlines()
    assert sorted(call.split()[-1] for call in calls) == LOCKS
    assert all("--strict" in call.split() for call in calls)
    assert f"no known vulnerability in {len(LOCKS)} locks" in done.stdout


def test_it_fails_with_the_locks_that_fail_and_goes_on_to_the_others(program: Path) -> None:
    done = audit(program, vulnerable=LOCKS[0])
    assert done.returncode == 1
    assert f"1 of {len(LOCKS)} locks" in done.stderr
    assert LOCKS[0] in done.stderr
    assert len(Path(f"{program}.calls").read_text().splitlines()) == len(LOCKS)
