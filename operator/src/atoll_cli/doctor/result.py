"""What a check finds, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """`WARN`: some of Atoll does not work, or it could not be checked; `FAIL`: runs or devices do not work."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True)
class CheckResult:
    """One line of the report. `advice` says what to do where the level is not OK."""

    check: str
    level: Level
    message: str
    advice: str = ""

    def document(self) -> dict[str, Any]:
        """As `-o json` prints it."""
        found = {"check": self.check, "level": str(self.level), "message": self.message}
        return found | ({"advice": self.advice} if self.advice else {})


def ok(check: str, message: str) -> CheckResult:
    return CheckResult(check, Level.OK, message)


def warn(check: str, message: str, advice: str) -> CheckResult:
    return CheckResult(check, Level.WARN, message, advice)


def fail(check: str, message: str, advice: str) -> CheckResult:
    return CheckResult(check, Level.FAIL, message, advice)
