"""A connection through the API server to a port of a pod, over a WebSocket, as `kubectl port-forward` opens it.

The protocol is `v4.channel.k8s.io`: the first byte of each message names its channel, 0 for data and 1 for errors; the
first message of each channel holds only the port's number. A connection is for one thread at a time.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import websocket

from atoll_operator.kube.errors import ClusterError, Unavailable, from_answer

PROTOCOL = "v4.channel.k8s.io"
_DATA, _ERROR = b"\0", b"\1"
_WEBSOCKET_SCHEMES = {"http": "ws", "https": "wss"}


@dataclass(frozen=True)
class PortRequest:
    """The request's URL and authorization, and the client's TLS and proxy settings."""

    call: str
    url: str
    authorization: str | None
    configuration: Any
    timeout_seconds: float


class PodPort:
    """An open connection. Every method raises ClusterError where it fails."""

    def __init__(self, call: str, connection: Any) -> None:
        self._call = call
        self._connection = connection
        self._begun: set[bytes] = set()

    def fileno(self) -> int:
        """For `select`; see `has_pending`."""
        return int(self._connection.fileno())

    @property
    def has_pending(self) -> bool:
        """Whether TLS has buffered bytes, which `select` does not see."""
        plain = self._connection.sock
        return isinstance(plain, ssl.SSLSocket) and plain.pending() > 0

    def send(self, data: bytes) -> None:
        try:
            self._connection.send_binary(_DATA + data)
        except (websocket.WebSocketException, OSError) as error:
            raise Unavailable(self._call, f"the connection broke off: {error}") from None

    def receive(self) -> bytes | None:
        """Waits for one message and returns its data, empty where it holds none; None at the end."""
        try:
            kind, message = self._connection.recv_data(control_frame=True)
        except websocket.WebSocketConnectionClosedException:
            return None
        except (websocket.WebSocketException, OSError) as error:
            raise Unavailable(self._call, f"the connection broke off: {error}") from None
        if kind == websocket.ABNF.OPCODE_CLOSE:
            return None
        if kind != websocket.ABNF.OPCODE_BINARY:
            return b""
        channel, data = message[:1], bytes(message[1:])
        if channel not in self._begun:
            self._begun.add(channel)
            return b""
        if channel == _ERROR:
            raise ClusterError(self._call, data.decode(errors="replace").strip())
        return data

    def close(self) -> None:
        # Without the closing handshake: nobody needs the answer.
        self._connection.shutdown()


def open_pod_port(request: PortRequest) -> PodPort:
    """Opens the connection. Raises ClusterError where the API server refuses or does not answer."""
    # Its methods are not all annotated.
    connection: Any = websocket.WebSocket(sslopt=_tls(request.configuration))
    parts = urlsplit(request.url)
    options: dict[str, Any] = {"subprotocols": [PROTOCOL], "timeout": request.timeout_seconds}
    if request.authorization:
        options["header"] = [f"Authorization: {request.authorization}"]
    try:
        connection.connect(
            urlunsplit(parts._replace(scheme=_WEBSOCKET_SCHEMES[parts.scheme])),
            **options,
            **_proxy(request.configuration),
        )
    except websocket.WebSocketBadStatusException as error:
        raise from_answer(request.call, status=error.status_code, data=error.resp_body or b"") from None
    except (websocket.WebSocketException, OSError) as error:
        raise Unavailable(request.call, f"no answer from the API server: {error}") from None
    return PodPort(request.call, connection)


def authorization(headers: Mapping[str, str]) -> str | None:
    """Returns the Authorization header; None where a client certificate identifies the user."""
    return next((value for name, value in headers.items() if name.lower() == "authorization"), None)


def _tls(configuration: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"cert_reqs": ssl.CERT_REQUIRED if configuration.verify_ssl else ssl.CERT_NONE}
    named = {
        "ca_certs": configuration.ssl_ca_cert,
        "certfile": configuration.cert_file,
        "keyfile": configuration.key_file,
        "server_hostname": configuration.tls_server_name,
    }
    return options | {name: value for name, value in named.items() if value}


def _proxy(configuration: Any) -> dict[str, Any]:
    if not configuration.proxy:
        return {}
    parts = urlsplit(configuration.proxy)
    options: dict[str, Any] = {"http_proxy_host": parts.hostname, "http_proxy_port": parts.port or 80}
    if configuration.no_proxy:
        options["http_no_proxy"] = configuration.no_proxy.split(",")
    if parts.username:
        options["http_proxy_auth"] = (parts.username, parts.password or "")
    return options
