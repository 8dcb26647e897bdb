"""Only the page itself, in a browser on this machine, gets answers."""

import http.client
import re
import socket

import pytest

from atoll_cli.ui.links import LINK_SECONDS, MAX_LINKS, DownloadLinks, LinkedFile
from atoll_cli.ui.server import TOKEN_HEADER
from support.local_page import LocalPage

STATIC = ("/", "/ui.css", "/ui.js")


def send(page: LocalPage, path: str, headers: dict[str, str], method: str = "GET") -> tuple[int, str]:
    """A request with exactly these headers, Host included."""
    connection = http.client.HTTPConnection("127.0.0.1", page.server.guard.port, timeout=30)
    connection.putrequest(method, path, skip_host=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


@pytest.mark.parametrize("path", ["/api/state", "/api/runs/x", "/api/comparison?old=a-v1&new=a-v2", "/nothing"])
def test_without_the_token_nothing_is_answered(page: LocalPage, path: str) -> None:
    assert page.send(path, headers={})[0] == 403
    assert page.send(path, headers={TOKEN_HEADER: "x" * 32})[0] == 403


@pytest.mark.parametrize(
    "path", ["/api/runs", "/api/drafts", "/api/checks", "/api/archives?name=a.tar", "/api/runs/x/cancel"]
)
def test_without_the_token_nothing_is_done(page: LocalPage, path: str) -> None:
    assert page.send(f"/api/{path}", b"{}", headers={})[0] == 403
    assert not page.store.exists()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1.evil.example:{port}", ""])
@pytest.mark.parametrize("path", ["/", "/api/state"])
def test_a_foreign_host_name_that_resolves_to_this_machine_is_refused(page: LocalPage, host: str, path: str) -> None:
    guard = page.server.guard
    headers = {"Host": host.format(port=guard.port), TOKEN_HEADER: guard.token}
    assert send(page, path, headers)[0] == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1"])
def test_another_page_is_refused_even_with_the_token(page: LocalPage, origin: str) -> None:
    guard = page.server.guard
    own = {"Host": f"localhost:{guard.port}", TOKEN_HEADER: guard.token}
    assert send(page, "/api/state", own | {"Origin": f"http://localhost:{guard.port}"})[0] == 200
    assert send(page, "/api/state", own | {"Origin": origin.format(port=guard.port)})[0] == 403


def test_the_page_listens_on_the_loopback_only(page: LocalPage) -> None:
    with pytest.raises(OSError, match="refused"):
        # Another address of the loopback network: all interfaces would answer on it.
        socket.create_connection(("127.0.0.2", page.server.guard.port), timeout=5)


@pytest.mark.parametrize("path", STATIC)
def test_the_page_itself_knows_no_secret_and_loads_nothing_from_elsewhere(page: LocalPage, path: str) -> None:
    status, body = page.send(path, headers={})
    assert status == 200
    text = body.decode()
    assert page.server.guard.token not in text
    assert [url for url in re.findall(r"https?://[^\s\"'<>]+", text) if "www.w3.org" not in url] == []


def test_the_token_is_in_the_fragment_which_browsers_do_not_send(page: LocalPage) -> None:
    assert page.address.endswith(f"/#{page.server.guard.token}")
    assert page.server.guard.token not in repr(page.server.guard)


def test_the_address_of_a_file_is_valid_for_ten_minutes() -> None:
    now = [0.0]
    links = DownloadLinks(clock=lambda: now[0])
    path = links.add(LinkedFile("report.html", "text/html", lambda: b"", sandboxed=True))
    found = links.find(path)
    assert found is not None
    assert found.sandboxed
    now[0] = LINK_SECONDS
    assert links.find(path) is None


def test_addresses_are_bounded_and_cannot_be_guessed() -> None:
    links = DownloadLinks(clock=lambda: 0.0)
    paths = [links.add(LinkedFile("a", "text/plain", lambda: b"")) for _ in range(MAX_LINKS + 1)]
    assert len(set(paths)) == MAX_LINKS + 1
    assert links.find(paths[0]) is None
    assert links.find(paths[1]) is not None
    assert links.find("/files/a") is None
