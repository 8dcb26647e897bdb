"""`python -m support.dripping_connections PORT COUNT`: connections whose requests never end, with a byte each second.

One that is refused or ended is opened again in the next second. It prints `ready` when all have been tried once, and
runs until its standard input closes.
"""

import contextlib
import resource
import select
import socket
import sys
import time

CLIENTS = 50
EVERY_SECONDS = 1.0


def opened(port: int, number: int) -> socket.socket | None:
    """A connection from one of many addresses, since each has its own bound."""
    connection = socket.socket()
    connection.settimeout(0.2)
    try:
        connection.bind((f"127.0.1.{number % CLIENTS + 1}", 0))
        connection.connect(("127.0.0.1", port))
        connection.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
    except OSError:
        connection.close()
        return None
    return connection


def main(port: int, count: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, count + 100), most))
    connections: list[socket.socket | None] = [None] * count
    ready = False
    while not select.select([sys.stdin], [], [], 0)[0]:
        due = time.monotonic() + EVERY_SECONDS
        for number, connection in enumerate(connections):
            if connection is None or not dripped(connection):
                connections[number] = opened(port, number)
        if not ready:
            print("ready", flush=True)
        ready = True
        time.sleep(max(0.0, due - time.monotonic()))


def dripped(connection: socket.socket) -> bool:
    """Sends a byte; returns False where the other side has ended the connection."""
    with contextlib.suppress(OSError):
        connection.sendall(b"a")
        return True
    connection.close()
    return False


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
