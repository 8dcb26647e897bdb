"""The streams: what viewers' URLs may ask for, how many viewers there may be, and what they all get in a second."""

import functools
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import cv2
import numpy as np
import pytest

from atoll_edge.camera.files import draw_scene
from atoll_edge.demo import free_ports
from atoll_edge.video.bandwidth import BURST_SECONDS, Bandwidth
from atoll_edge.video.stream import MjpegStream, PortTaken
from atoll_edge.video.viewer import StreamLimits, fitted, limits_of
from support.polling import wait_until

LIMITS = StreamLimits(fps=100, compression=30, width=320, height=240)
GREEDY = "/?action=stream&fps=100&compression=100&resolution=1920x1080"


@contextmanager
def showing(
    limits: StreamLimits = LIMITS, *, max_viewers: int = 3, megabits: float = 1000.0, size: tuple[int, int] = (640, 480)
) -> Iterator[MjpegStream]:
    """A stream that somebody puts frames to."""
    stream = MjpegStream(
        "Axon", free_ports(1)[0], limits=limits, max_viewers=max_viewers, bandwidth=Bandwidth(megabits)
    )
    stopping = threading.Event()

    def put() -> None:
        number = 0
        while not stopping.wait(0.005):
            number += 1
            if stream.due:
                stream.put(functools.partial(draw_scene, *size, number))

    thread = threading.Thread(target=put)
    thread.start()
    try:
        yield stream
    finally:
        stopping.set()
        thread.join()
        stream.close()


def view(stream: MjpegStream, path: str = "/?action=stream") -> Any:
    return urllib.request.urlopen(f"http://127.0.0.1:{stream.port}{path}", timeout=20)


def next_image(answer: Any) -> tuple[Any, int]:
    """The next image of a stream, and the bytes of its JPEG."""
    assert "multipart/x-mixed-replace" in answer.headers["Content-Type"]
    size = 0
    while (line := answer.readline()) != b"\r\n" or not size:
        assert line, "the stream ended"
        if line.startswith(b"Content-Length: "):
            size = int(line.split()[1])
    return cv2.imdecode(np.frombuffer(answer.read(size), np.uint8), cv2.IMREAD_COLOR), size


@pytest.mark.parametrize("path", ["/?action=stream", "/stream.mjpg", "/stream.mjpg?fps=10", "/?fps=10&action=stream"])
def test_the_urls_of_dashboards_work(path: str) -> None:
    with showing() as stream, view(stream, path) as answer:
        assert next_image(answer)[0].shape == (240, 320, 3)
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_opencv_and_cscore_read_the_stream() -> None:
    import cscore

    with showing() as stream:
        url = f"http://127.0.0.1:{stream.port}/stream.mjpg"
        video = cv2.VideoCapture(url)
        assert [video.read()[0] for _ in range(3)] == [True] * 3
        video.release()
        camera = cscore.HttpCamera("viewer", f"http://127.0.0.1:{stream.port}/?action=stream")
        sink = cscore.CvSink("frames")
        sink.setSource(camera)
        buffer = np.zeros((240, 320, 3), np.uint8)
        wait_until(lambda: sink.grabFrame(buffer, 1.0)[0] > 0, what="a frame by cscore")


def test_E25_a_viewer_gets_no_more_than_the_settings_allow() -> None:
    with showing() as stream, view(stream) as plain, view(stream, GREEDY) as greedy:
        modest, bytes_of_modest = next_image(plain)
        greediest, bytes_of_greediest = next_image(greedy)
        assert greediest.shape == modest.shape == (240, 320, 3)
        assert bytes_of_greediest == pytest.approx(bytes_of_modest, rel=0.2)


def test_a_viewer_gets_less_where_it_asks_for_less() -> None:
    with showing() as stream, view(stream, "/?action=stream&resolution=160x120&compression=5") as answer:
        assert next_image(answer)[0].shape == (120, 160, 3)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", StreamLimits(15, 30, 320, 240)),
        ("fps=5&compression=20&resolution=160x120", StreamLimits(5, 20, 160, 120)),
        ("fps=1000&compression=100&resolution=9999x9999", StreamLimits(15, 30, 320, 240)),
        ("fps=0&compression=0&resolution=0x0", StreamLimits(1, 0, 1, 1)),
        ("fps=-1&compression=-1&resolution=-1x-1", StreamLimits(15, 30, 320, 240)),
        ("fps=ten&compression=&resolution=large", StreamLimits(15, 30, 320, 240)),
        ("fps=1e9&fps=5&resolution=160", StreamLimits(5, 30, 160, 240)),
        ("fps=" + "9" * 5000, StreamLimits(15, 30, 320, 240)),
    ],
)
def test_what_a_url_asks_for(query: str, expected: StreamLimits) -> None:
    assert limits_of(query, StreamLimits()) == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [((640, 480), (320, 240)), ((1280, 720), (320, 180)), ((160, 120), (160, 120)), ((4000, 2), (320, 1))],
)
def test_a_frame_keeps_its_proportions(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert fitted(*size, StreamLimits()) == expected


def test_E25_one_viewer_too_many_is_refused_until_another_leaves() -> None:
    with showing(max_viewers=2) as stream, ExitStack() as viewers:
        first = viewers.enter_context(view(stream))
        viewers.enter_context(view(stream))
        for _ in range(3):
            with pytest.raises(urllib.error.HTTPError, match=r"503.*streams\.maxViewers") as refused:
                view(stream)
            refused.value.close()
        first.close()

        def again() -> Any:
            try:
                return view(stream)
            except urllib.error.HTTPError as error:
                error.close()
                return None

        with wait_until(again, what="a place for another viewer") as answer:
            assert next_image(answer)[0].shape == (240, 320, 3)


def test_a_viewer_that_leaves_while_no_frame_comes_makes_room() -> None:
    stream = MjpegStream("Axon", free_ports(1)[0], limits=LIMITS, max_viewers=1, bandwidth=Bandwidth(7))
    try:
        with view(stream):
            wait_until(lambda: stream.watched, what="the viewer")
        wait_until(lambda: not stream.watched, what="the viewer to be gone")
    finally:
        stream.close()


def test_a_viewer_that_takes_nothing_does_not_hold_up_the_others() -> None:
    with showing() as stream, socket.create_connection(("127.0.0.1", stream.port)) as stalled:
        stalled.sendall(b"GET /?action=stream HTTP/1.0\r\n\r\n")
        with view(stream) as answer:
            for _ in range(20):
                next_image(answer)


def test_E25_all_viewers_together_stay_within_the_bandwidth() -> None:
    bandwidth = Bandwidth(7.0)
    shares = [bandwidth.share() for _ in range(6)]
    start = time.monotonic()
    sent = [0] * len(shares)
    for number in range(15 * 20):
        for index, share in enumerate(shares):
            if share.allows(start + number / 15):
                share.take(25_000)
                sent[index] += 25_000
    allowed = 7e6 / 8 * 20
    assert sum(sent) <= allowed + 7e6 / 8 * BURST_SECONDS + 6 * 25_000
    assert sum(sent) >= 0.9 * allowed
    assert max(sent) - min(sent) <= 25_000
    for share in shares:
        share.close()
    assert bandwidth.bytes_per_second == 7e6 / 8


def test_E25_what_viewers_get_in_a_second_is_bounded() -> None:
    """Real viewers, with a frame of a full bandwidth's tenth each: far more would be taken."""
    with showing(StreamLimits(100, 95, 640, 480), max_viewers=3, megabits=2.0) as stream, ExitStack() as viewers:
        answers = [viewers.enter_context(view(stream, GREEDY)) for _ in range(3)]
        started = time.monotonic()
        sizes = [next_image(answer)[1] for _ in range(5) for answer in answers]
        seconds = time.monotonic() - started
        assert sum(sizes) <= 2e6 / 8 * (seconds + BURST_SECONDS) + 3 * max(sizes)


def test_a_taken_port_is_said_with_what_may_hold_it() -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        with pytest.raises(PortTaken, match="WPILibPi"):
            MjpegStream("Axon", taken.getsockname()[1], limits=LIMITS, max_viewers=3, bandwidth=Bandwidth(7))


def test_a_closed_stream_frees_its_port_while_somebody_watches() -> None:
    stream = MjpegStream("Axon", free_ports(1)[0], limits=LIMITS, max_viewers=3, bandwidth=Bandwidth(7))
    with view(stream) as answer:
        wait_until(lambda: stream.watched, what="the viewer")
        stream.close()
        answer.read()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("", stream.port))
