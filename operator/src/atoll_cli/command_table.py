"""The commands of `atoll`: where each works, the module that defines it, and how it is called."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CommandGroup(StrEnum):
    """Where a command works. The values are headings of the help."""

    HERE = "On this machine"
    BOTH = "On this machine or a cluster"
    CLUSTER = "On a cluster"
    PROGRAM = "About this program"


@dataclass(frozen=True)
class CommandInfo:
    """`module` of `atoll_cli.commands` defines the command as `<command>_command`; `example` are its arguments."""

    group: CommandGroup
    module: str
    example: str


# In the order of the help.
COMMANDS = {
    "sample": CommandInfo(CommandGroup.HERE, "sample", "field --to robot"),
    "record": CommandInfo(CommandGroup.HERE, "record", "0 --to match.mp4 --time-limit 3m"),
    "frames": CommandInfo(CommandGroup.HERE, "frames", "match.mp4 --to frames"),
    "run": CommandInfo(CommandGroup.HERE, "run", "run.yaml --data my-export.tar"),
    "sweep": CommandInfo(CommandGroup.HERE, "sweep", "sweep.yaml --data my-export.tar"),
    "ui": CommandInfo(CommandGroup.HERE, "ui", "--store atoll-store"),
    "validate": CommandInfo(CommandGroup.HERE, "submit", "run.yaml"),
    "keygen": CommandInfo(CommandGroup.HERE, "keygen", "atoll-signing.pem"),
    "new": CommandInfo(CommandGroup.BOTH, "new", "my-export.tar --within 30m"),
    "push": CommandInfo(CommandGroup.BOTH, "push", "my-export.tar -n team"),
    "weights": CommandInfo(CommandGroup.BOTH, "weights", "--width 0.5"),
    "status": CommandInfo(CommandGroup.BOTH, "status", "note --watch"),
    "wait": CommandInfo(CommandGroup.BOTH, "status", "note --timeout 2h"),
    "logs": CommandInfo(CommandGroup.BOTH, "logs", "note -f"),
    "suspend": CommandInfo(CommandGroup.BOTH, "lifecycle", "note"),
    "resume": CommandInfo(CommandGroup.BOTH, "lifecycle", "note"),
    "retry": CommandInfo(CommandGroup.BOTH, "lifecycle", "note --stage train"),
    "cancel": CommandInfo(CommandGroup.BOTH, "lifecycle", "note"),
    "report": CommandInfo(CommandGroup.BOTH, "report", "note"),
    "releases": CommandInfo(CommandGroup.BOTH, "releases", "note -o wide"),
    "pull": CommandInfo(CommandGroup.BOTH, "releases", "note-v3"),
    "rollout": CommandInfo(CommandGroup.BOTH, "rollout", "status note"),
    "test-video": CommandInfo(CommandGroup.BOTH, "test_video", "note-v3 match.mp4 --to seen"),
    "compare": CommandInfo(CommandGroup.BOTH, "compare", "note-v3 note-v4"),
    "harvest": CommandInfo(CommandGroup.BOTH, "harvest", "note --to batch"),
    "prune": CommandInfo(CommandGroup.BOTH, "prune", "--older-than 30d"),
    "submit": CommandInfo(CommandGroup.CLUSTER, "submit", "run.yaml -n team --watch"),
    "doctor": CommandInfo(CommandGroup.CLUSTER, "doctor", "-n team"),
    "version": CommandInfo(CommandGroup.PROGRAM, "program", "-o json"),
    "completion": CommandInfo(CommandGroup.PROGRAM, "program", "bash"),
    "help": CommandInfo(CommandGroup.PROGRAM, "program", "run"),
}

# What users of other tools type first → the command that does it.
SYNONYMS = {
    "train": "run",
    "predict": "test-video",
    "detect": "test-video",
    "track": "test-video",
    "val": "compare",
    "diff": "compare",
    "get": "status",
    "describe": "status",
    "list": "status",
    "ls": "status",
    "ps": "status",
    "top": "status",
    "apply": "submit",
    "create": "submit",
    "install": "submit",
    "lint": "validate",
    "check": "validate",
    "diagnose": "doctor",
    "init": "new",
    "upload": "push",
    "download": "pull",
    "fetch": "pull",
    "delete": "cancel",
    "stop": "cancel",
    "pause": "suspend",
    "continue": "resume",
    "log": "logs",
    "models": "releases",
    "history": "releases",
    "clean": "prune",
    "gc": "prune",
    "serve": "ui",
    "capture": "record",
    "demo": "sample",
    "example": "sample",
}
