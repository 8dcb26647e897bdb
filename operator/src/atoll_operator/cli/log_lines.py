"""Lines of a stage's log as people read them: what the operator reads of them, told in words."""

from collections.abc import Iterable, Iterator

from atoll_contract.progress import Progress, parse_line
from atoll_operator.decide.progress import duration


def readable(line: str) -> str:
    """`line`, or what it says where it is a line of progress."""
    progress = parse_line(line)
    return line if progress is None else f"{progress.percent:3.0f}%  {_words(progress)}".rstrip()


def lines_of(chunks: Iterable[bytes]) -> Iterator[str]:
    """The lines of a log that was cut into chunks anywhere, without their ends."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")


def _words(progress: Progress) -> str:
    parts = [progress.message] if progress.message else []
    if progress.step is not None:
        parts.append(f"step {progress.step}" + (f"/{progress.total_steps}" if progress.total_steps else ""))
    parts += [f"loss {progress.loss:.3f}"] if progress.loss is not None else []
    parts += [f"AP50 {progress.ap50:.2f}"] if progress.ap50 is not None else []
    parts += [f"about {duration(progress.eta_seconds)} left"] if progress.eta_seconds else []
    return ", ".join(parts)
