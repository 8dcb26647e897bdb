"""How fast the machine is just now: a fixed piece of work, timed. A rented machine changes by a third within minutes,
and figures of two sides can only be compared where this is about the same."""

from __future__ import annotations

import json
import time

# What an API server does all day: documents, written and read.
_DOCUMENT = {f"field{number}": {"name": f"item-{number}", "values": list(range(20))} for number in range(200)}
_ROUNDS = 1500


def yardstick() -> float:
    """Seconds of one core for the piece of work, about one."""
    began = time.thread_time()
    for _ in range(_ROUNDS):
        json.loads(json.dumps(_DOCUMENT))
    return time.thread_time() - began
