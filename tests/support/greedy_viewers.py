"""`python -m support.greedy_viewers PORT COUNT`: viewers of a stream that ask for all they can, and come again at once.

It runs until its standard input closes, and then prints the bytes that all of them got.
"""

import contextlib
import socket
import sys
import threading
import time

REQUEST = b"GET /?action=stream&fps=100&compression=100&resolution=1920x1080 HTTP/1.0\r\n\r\n"
# As soon as a dashboard tries again.
AGAIN_SECONDS = 0.02


def watch(port: int, got: list[int], index: int, stopping: threading.Event) -> None:
    while not stopping.is_set():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0) as viewer:
            viewer.sendall(REQUEST)
            while not stopping.is_set() and (data := viewer.recv(65536)):
                got[index] += len(data)
        time.sleep(AGAIN_SECONDS)


def main(port: int, count: int) -> None:
    stopping = threading.Event()
    got = [0] * count
    threads = [threading.Thread(target=watch, args=(port, got, index, stopping)) for index in range(count)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stopping.set()
    for thread in threads:
        thread.join()
    print(sum(got))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
