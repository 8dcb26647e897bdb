"""Logs that stages left in the bucket."""

import re
from collections import defaultdict

import click

from atoll_contract import keys
from atoll_contract.keys import RunRef
from atoll_contract.stage import Stage
from atoll_contract.store import Store
from atoll_operator.cli.log_lines import lines_of, readable

_CHUNK = re.compile(r"([1-9][0-9]*)-([^/]+)/[0-9]+\.log")


def print_archived(store: Store, run: RunRef, stage: Stage) -> bool:
    """Print the logs of the stage's newest attempt, pod by pod; whether there are any."""
    prefix = keys.logs_prefix(run, stage)
    chunks: dict[tuple[int, str], list[str]] = defaultdict(list)
    for info in store.list(prefix):
        if found := _CHUNK.fullmatch(info.key, len(prefix)):
            chunks[int(found.group(1)), found.group(2)].append(info.key)
    newest = max((attempt for attempt, _ in chunks), default=0)
    for attempt, pod in sorted(key for key in chunks if key[0] == newest):
        click.echo(f"== {stage}, attempt {attempt}, pod {pod}, from {store.url}", err=True)
        for line in lines_of(store.get(key) for key in chunks[attempt, pod]):
            click.echo(readable(line))
    return bool(chunks)
