"""Who may ask: only the page that this process gave out, in a browser on this machine.

The server listens on 127.0.0.1 alone. Other pages in the same browser can still send requests there: by a name of
their own that they let point to it (DNS rebinding), or by a form. The first has another Host, the second another
Origin, and neither knows the token, which is in the address that was printed and never leaves the page but in a header.
"""

import hmac
import secrets
from dataclasses import dataclass, field
from email.message import Message

TOKEN_HEADER = "X-Atoll-Token"
LOOPBACK = "127.0.0.1"
_NAMES = (LOOPBACK, "localhost")


@dataclass(frozen=True)
class Guard:
    """`port` is the one that the server listens on."""

    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    @property
    def address(self) -> str:
        """What the user opens. What stands behind # is sent to no server and in no Referer."""
        return f"http://{LOOPBACK}:{self.port}/#{self.token}"

    def refusal(self, headers: Message, *, needs_token: bool) -> str:
        """Why a request is not answered; empty where it is."""
        host = headers.get("Host", "")
        if host not in {f"{name}:{self.port}" for name in _NAMES}:
            return f"this page is asked for as {host[:80]!r}; open the address that atoll ui printed"
        origin = headers.get("Origin")
        if origin is not None and origin != f"http://{host}":
            return f"another page ({origin[:80]}) may not ask here"
        if needs_token and not hmac.compare_digest(headers.get(TOKEN_HEADER, "").encode(), self.token.encode()):
            return "the token is missing or old; open the address that atoll ui printed"
        return ""
