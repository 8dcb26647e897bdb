"""Measures how fast the machine is now, by a fixed piece of work. A rented machine changes by a third within minutes,
and figures of two sides can only be compared where this is about the same."""

from __future__ import annotations

import json
import time

# Documents to write and read, as an API server does.
_DOCUMENT = {f"field{number}": {"name": f"item-{number}", "values": list(range(20))} for number in range(200)}
_ROUNDS = 1500


def benchmark_seconds() -> float:
    """Returns the seconds of one core for the piece of work, about one."""
    began = time.thread_time()
    for _ in range(_ROUNDS):
        json.loads(json.dumps(_DOCUMENT))
    return time.thread_time() - began
