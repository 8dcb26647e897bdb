"""Does the store's conditional put hold? Asked before it is trusted as the lock on version numbers."""

import secrets
import threading
from concurrent.futures import ThreadPoolExecutor

from atoll_contract.keys import probe
from atoll_contract.reasons import Reason
from atoll_contract.store import PreconditionFailed, Store, StoreError

WRITERS = 32
# A server that checks and then writes may pass once by luck.
ROUNDS = 3


def require_conditional_put(store: Store, *, namespace: str, model: str) -> None:
    """Let `WRITERS` put one key at once, `ROUNDS` times.

    Raises:
        StoreError: `StoreUnsuitable`, where not exactly one of them won, or another's bytes are there.
    """
    for _ in range(ROUNDS):
        key = probe(namespace, model, secrets.token_hex(8))
        try:
            winners = _winners(store, key)
            kept = store.get(key) if winners else b""
            overwritten = _put(store, key, b"late")
        finally:
            store.delete(key)
        if len(winners) != 1 or kept != winners[0] or overwritten:
            raise StoreError(Reason.STORE_UNSUITABLE, _verdict(store, len(winners)))


def _verdict(store: Store, winners: int) -> str:
    told = "it was overwritten afterwards" if winners == 1 else f"{winners} were told that they had"
    return (
        f"{store.url} does not keep conditional writes: of {WRITERS} writers of a key exactly one may succeed, {told}; "
        "publish from a cluster, where the API server is the lock, or use another store"
    )


def _winners(store: Store, key: str) -> list[bytes]:
    start = threading.Barrier(WRITERS)

    def write(number: int) -> bytes | None:
        data = f"writer {number} {secrets.token_hex(8)}".encode()
        start.wait(timeout=60)
        return data if _put(store, key, data) else None

    with ThreadPoolExecutor(WRITERS, thread_name_prefix="probe") as pool:
        return [data for data in pool.map(write, range(WRITERS)) if data is not None]


def _put(store: Store, key: str, data: bytes) -> bool:
    try:
        store.put(key, data, if_absent=True)
    except PreconditionFailed:
        return False
    return True
