"""The status port keeps its bounds: neither many connections nor slow ones take files and threads from the detector."""

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator

import pytest

from atoll_edge.status import HealthCheck
from atoll_edge.web.server import MAX_CONNECTIONS, MAX_CONNECTIONS_OF_A_CLIENT, Handlers, StatusServer
from support.polling import wait_until

SECONDS = 2.0
FINE = HealthCheck(True, "fine")


@pytest.fixture
def server() -> Iterator[StatusServer]:
    handlers = Handlers(
        status=lambda: None,  # type: ignore[arg-type, return-value]
        live=lambda: FINE,
        ready=lambda: FINE,
        started=lambda: FINE,
        metrics=lambda: b"",
        image=lambda _: None,
    )
    server = StatusServer(handlers, 0, request_seconds=SECONDS)
    server.start()
    yield server
    server.close()


def get(server: StatusServer, path: str, *, source: str = "127.0.0.1") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5, source_address=(source, 0))
    with contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().status


def begun(server: StatusServer, source: str) -> socket.socket:
    """A connection whose request is not whole."""
    found = socket.create_connection(("127.0.0.1", server.port), timeout=5, source_address=(source, 0))
    found.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
    return found


def drip(connections: list[socket.socket]) -> None:
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.sendall(b"a")


def is_over(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_E16_one_client_keeps_no_other_out(server: StatusServer) -> None:
    threads = threading.active_count()
    with contextlib.ExitStack() as stack:
        flood = [stack.enter_context(begun(server, "127.0.0.9")) for _ in range(300)]
        wait_until(lambda: sum(map(is_over, flood)) >= 300 - MAX_CONNECTIONS_OF_A_CLIENT, what="the refusals")
        assert threading.active_count() - threads <= MAX_CONNECTIONS_OF_A_CLIENT
        assert get(server, "/livez") == 200


def test_E16_many_clients_take_no_more_than_the_bound(server: StatusServer) -> None:
    threads = threading.active_count()
    with contextlib.ExitStack() as stack:
        flood = [stack.enter_context(begun(server, f"127.0.0.{number}")) for number in range(10, 110)]
        wait_until(lambda: sum(map(is_over, flood)) >= 100 - MAX_CONNECTIONS, what="the refusals")
        assert threading.active_count() - threads <= MAX_CONNECTIONS


def test_E16_a_byte_now_and_then_does_not_keep_a_connection(server: StatusServer) -> None:
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(begun(server, "127.0.0.9")) for _ in range(MAX_CONNECTIONS_OF_A_CLIENT)]

        def ended() -> bool:
            drip(slow)
            return all(map(is_over, slow))

        wait_until(ended, what="the end of the slow requests", timeout_seconds=30)
    wait_until(lambda: get(server, "/livez", source="127.0.0.9") == 200, what="an answer to the same client")
