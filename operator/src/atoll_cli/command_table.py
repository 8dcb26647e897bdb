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
    """`module` of `atoll_cli.commands` defines the command as `<command>_command`; `example` are its arguments,
    `summary` is what the list of all commands says of it in half a line."""

    group: CommandGroup
    module: str
    example: str
    summary: str = ""


# In the order of the help.
COMMANDS = {
    "sample": CommandInfo(CommandGroup.HERE, "sample", "field --to robot", "draw data to try Atoll"),
    "record": CommandInfo(CommandGroup.HERE, "record", "0 --to match.mp4 --time-limit 3m", "record a camera or stream"),
    "frames": CommandInfo(CommandGroup.HERE, "frames", "match.mp4 --to frames", "take out frames to label"),
    "run": CommandInfo(CommandGroup.HERE, "run", "run.yaml --data my-export.tar", "train without a cluster"),
    "sweep": CommandInfo(CommandGroup.HERE, "sweep", "sweep.yaml --data my-export.tar", "find the best settings"),
    "ui": CommandInfo(CommandGroup.HERE, "ui", "--store atoll-store", "train in the browser"),
    "validate": CommandInfo(CommandGroup.HERE, "submit", "run.yaml", "check files offline"),
    "keygen": CommandInfo(CommandGroup.HERE, "keygen", "atoll-signing.pem", "make keys to sign with"),
    "new": CommandInfo(CommandGroup.BOTH, "new", "my-export.tar --within 30m", "write a run.yaml for data"),
    "push": CommandInfo(CommandGroup.BOTH, "push", "my-export.tar -n team", "upload a labelled archive"),
    "weights": CommandInfo(CommandGroup.BOTH, "weights", "--width 0.5", "get ImageNet weights"),
    "status": CommandInfo(CommandGroup.BOTH, "status", "note --watch", "show runs, also live"),
    "wait": CommandInfo(CommandGroup.BOTH, "status", "note --timeout 2h", "wait until a run ends"),
    "logs": CommandInfo(CommandGroup.BOTH, "logs", "note -f", "show what a stage printed"),
    "suspend": CommandInfo(CommandGroup.BOTH, "lifecycle", "note", "stop a run for a while"),
    "resume": CommandInfo(CommandGroup.BOTH, "lifecycle", "note", "continue a suspended run"),
    "retry": CommandInfo(CommandGroup.BOTH, "lifecycle", "note --stage train", "start a failed run again"),
    "cancel": CommandInfo(CommandGroup.BOTH, "lifecycle", "note", "end a run for good"),
    "report": CommandInfo(CommandGroup.BOTH, "report", "note", "open the report of a run"),
    "releases": CommandInfo(CommandGroup.BOTH, "releases", "note -o wide", "list what was published"),
    "pull": CommandInfo(CommandGroup.BOTH, "releases", "note-v3", "download a release"),
    "rollout": CommandInfo(CommandGroup.BOTH, "rollout", "status note", "watch or steer a roll-out"),
    "test-video": CommandInfo(CommandGroup.BOTH, "test_video", "note-v3 match.mp4 --to seen", "run a model on videos"),
    "compare": CommandInfo(CommandGroup.BOTH, "compare", "note-v3 note-v4", "compare two models"),
    "harvest": CommandInfo(CommandGroup.BOTH, "harvest", "note --to batch", "fetch frames of devices"),
    "prune": CommandInfo(CommandGroup.BOTH, "prune", "--older-than 30d", "remove what is not needed"),
    "submit": CommandInfo(CommandGroup.CLUSTER, "submit", "run.yaml -n team --watch", "start a run from a file"),
    "doctor": CommandInfo(CommandGroup.CLUSTER, "doctor", "-n team", "check an installation"),
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
