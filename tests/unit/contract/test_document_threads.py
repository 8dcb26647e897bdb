"""Threads that decode documents of the same kind at the same time.

In a process of its own, which a segmentation fault would end: until a class is whole msgspec shows it to other threads.
"""

import subprocess
import sys

# New classes each time, in each other, which all threads decode for the first time at once.
PROGRAM = """
import sys, threading, types
from atoll_contract.document import from_dict, from_json

DEPTH, THREADS, ROUNDS = 12, 8, 60
SOURCE = ["from atoll_contract.document import Document"]
for depth in reversed(range(DEPTH)):
    SOURCE += [f"class D{depth}(Document, frozen=True):", "    a: int = 0", "    b: dict[str, int] = {}"]
    if depth < DEPTH - 1:
        SOURCE += [f"    c: D{depth + 1} | None = None", f"    d: dict[str, D{depth + 1}] = {{}}"]

sys.setswitchinterval(1e-6)
for round in range(ROUNDS):
    module = types.ModuleType(f"documents_{round}")
    sys.modules[module.__name__] = module
    exec("\\n".join(SOURCE), module.__dict__)
    kinds = [getattr(module, f"D{depth}") for depth in range(DEPTH)]
    together = threading.Barrier(THREADS)

    def decode(number):
        together.wait()
        for kind in (kinds[number], kinds[number * 5 % DEPTH], kinds[0]):
            assert from_dict(kind, {"a": 1, "c": {"a": 2}} if kind is not kinds[-1] else {"a": 1}).a == 1
            assert from_json(kind, b'{"a": 3}').a == 3

    threads = [threading.Thread(target=decode, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print("whole")
"""


def test_O42_a_kind_is_learned_by_one_thread_before_another_decodes_it() -> None:
    ended = subprocess.run([sys.executable, "-P", "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, "whole\n"), ended.stderr
