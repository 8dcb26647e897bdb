"""Log chunks: order, retries, limits, and giving up."""

import threading

from atoll_contract.errors import Reason
from atoll_contract.store.base import StoreError
from atoll_stages.runtime import logs
from atoll_stages.runtime.logs import LogChunks


class ChunkStore:
    """Takes chunks; fails the first `failures` times; holds every put back until `gate` is open."""

    def __init__(self, *, failures: int = 0, open_: bool = True) -> None:
        self.chunks: dict[int, bytes] = {}
        self.failures = failures
        self.gate = threading.Event()
        self.tried = threading.Event()
        if open_:
            self.gate.set()

    def put(self, number: int, chunk: bytes) -> None:
        self.tried.set()
        self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise StoreError(Reason.STORAGE_UNAVAILABLE, "503")
        assert number not in self.chunks
        self.chunks[number] = chunk


def test_a_full_chunk_goes_out_before_its_time_and_the_rest_at_the_end() -> None:
    chunk_store = ChunkStore()
    chunks = LogChunks(chunk_store.put, interval=3600)
    chunks.start()
    chunks.feed(b"a" * logs.CHUNK_BYTES)
    assert chunk_store.tried.wait(30)
    chunks.feed(b"the end")
    assert chunks.close(timeout=30)
    assert b"".join(chunk_store.chunks[n] for n in sorted(chunk_store.chunks)) == b"a" * logs.CHUNK_BYTES + b"the end"
    assert list(chunk_store.chunks) == list(range(len(chunk_store.chunks)))


def test_a_chunk_that_failed_goes_out_with_the_next_under_the_same_number() -> None:
    chunk_store = ChunkStore(failures=1)
    chunks = LogChunks(chunk_store.put, interval=0.01)
    chunks.start()
    chunks.feed(b"first ")
    assert chunk_store.tried.wait(30)
    chunks.feed(b"second")
    assert chunks.close(timeout=30)
    assert b"".join(chunk_store.chunks[n] for n in sorted(chunk_store.chunks)) == b"first second"
    assert min(chunk_store.chunks) == 0


def test_an_idle_stage_stores_no_chunk() -> None:
    chunk_store = ChunkStore()
    chunks = LogChunks(chunk_store.put, interval=0.01)
    chunks.start()
    assert chunks.close(timeout=30)
    assert chunk_store.chunks == {}


def test_a_store_that_hangs_is_given_up_and_never_blocks_the_output() -> None:
    chunk_store = ChunkStore(open_=False)
    chunks = LogChunks(chunk_store.put, interval=0.01)
    chunks.start()
    chunks.feed(b"first")
    assert chunk_store.tried.wait(30)
    for _ in range(20):
        chunks.feed(b"x" * logs.CHUNK_BYTES)
    assert not chunks.close(timeout=0.05)
    chunk_store.gate.set()
    assert chunks.close(timeout=30)
    whole = b"".join(chunk_store.chunks[n] for n in sorted(chunk_store.chunks))
    assert len(whole) < logs.MAX_HELD_BYTES + logs.CHUNK_BYTES
    assert b"bytes of the log were left out]" in whole
