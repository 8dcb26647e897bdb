"""What `python -m atoll_stages.convert --lint … --json` prints: a labelled archive, looked at before a run."""

from dataclasses import dataclass

from atoll_contract.dataset import Problem


@dataclass(frozen=True)
class LintClass:
    """Boxes of a class, by part of the split; `tiny` ones are hardly found by a detector of 320 pixels."""

    name: str
    boxes: dict[str, int]
    tiny: int


@dataclass(frozen=True)
class LintReport:
    """`ok` is False where a run would fail, for `reason` and with `message`."""

    path: str
    ok: bool
    reason: str
    message: str
    formats: tuple[str, ...] = ()
    pictures: int = 0
    negatives: int = 0
    split_by: str = ""
    split: dict[str, int] | None = None
    classes: tuple[LintClass, ...] = ()
    exact_duplicates: int = 0
    near_duplicates: int = 0
    duplicates_across_split: int = 0
    problem_counts: dict[str, int] | None = None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()

    def fault_of(self, name: str) -> str:
        """The message with the archive's name or path before it; most begin with the name themselves."""
        own = self.message.startswith(f"{name.rpartition('/')[2]}:")
        return self.message if own else f"{name}: {self.message}"
