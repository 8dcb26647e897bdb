"""Work that takes longer than a browser waits: started, asked after, one at a time."""

import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

from atoll_contract.errors import AtollError
from atoll_operator.kube.errors import ClusterError

logger = logging.getLogger(__name__)

Document = Mapping[str, Any]
# Is told in a sentence what the errand is at.
Told = Callable[[str], None]

MOST = 100


def answered(work: Callable[[], Document]) -> tuple[HTTPStatus, Document]:
    """The answer to a request: what the work gives, or why it cannot, as a sentence. The page's one broad except: a
    fault in one answer must not end the training that runs beside it."""
    try:
        return HTTPStatus.OK, work()
    except AtollError as error:
        return HTTPStatus.UNPROCESSABLE_ENTITY, {"error": error.message, "reason": str(error.reason)}
    except (ClusterError, OSError) as error:
        return HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error), "reason": "InternalError"}
    except Exception:
        logger.exception("a request failed")
        words = "a fault of Atoll itself; the terminal of atoll ui has the details"
        return HTTPStatus.INTERNAL_SERVER_ERROR, {"error": words, "reason": "InternalError"}


class Errands:
    """Runs one errand after the other; keeps the newest answers."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="errand")
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Document] = OrderedDict()

    def start(self, work: Callable[[Told], Document]) -> Document:
        """`{"errand": id}`, with which its state can be asked for."""
        number = secrets.token_hex(8)
        self._note(number, {"state": "waiting", "words": "waiting for its turn"})
        self._pool.submit(self._run, number, work)
        return {"errand": number}

    def state(self, number: str) -> Document | None:
        """`state` is waiting, working, done or refused; with the answer's fields once it is there."""
        with self._lock:
            return self._known.get(number)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, number: str, work: Callable[[Told], Document]) -> None:
        def tell(words: str) -> None:
            self._note(number, {"state": "working", "words": words})

        tell("at work")
        status, document = answered(lambda: work(tell))
        self._note(number, {"state": "done" if status is HTTPStatus.OK else "refused", **document})

    def _note(self, number: str, state: Document) -> None:
        with self._lock:
            self._known[number] = state
            while len(self._known) > MOST:
                self._known.popitem(last=False)
