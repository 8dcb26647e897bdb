"""Headless Chromium, driven over its DevTools protocol: what a user sees, clicks and types."""

import base64
import json
import subprocess
import tempfile
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import websocket

from support.edge_screenshot import chromium
from support.polling import wait_until

START_SECONDS = 60.0
ANSWER_SECONDS = 60.0


class Browser:
    """`with Browser(width, height) as page:`, one tab. `complaints` are the errors that the page logged. With `webcam`
    the browser has one, which shows a test pattern, and the user has allowed it."""

    def __init__(self, width: int = 1280, height: int = 900, *, dark: bool = False, webcam: bool = False) -> None:
        self._size = (width, height)
        self._dark = dark
        self._webcam = webcam
        self._number = 0
        self.complaints: list[str] = []

    def __enter__(self) -> Self:
        program = chromium()
        assert program is not None, "apt-get install chromium"
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [
                program,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--remote-debugging-port=0",
                *(["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"] if self._webcam else []),
                f"--user-data-dir={self._profile.name}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._socket = websocket.create_connection(self._tab(), timeout=ANSWER_SECONDS, suppress_origin=True)
            self._set_up()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._end()

    def open(self, url: str) -> None:
        # A page that differs behind # only would not be loaded anew.
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script: str, *, seconds: float = 60.0) -> Any:
        """Until the expression is true; its value."""
        return wait_until(lambda: self.run(script), what=script, timeout_seconds=seconds)

    def text(self, selector: str) -> str:
        return str(self.run(f"document.querySelector({json.dumps(selector)}).innerText"))

    def click(self, selector: str) -> None:
        """The first such element, once it is there."""
        self.wait(f"document.querySelector({json.dumps(selector)}) !== null")
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def press(self, key: str, *, code: int, text: str = "") -> None:
        """A key, as the keyboard sends it: `press("Tab", code=9)`."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, text=text)

    def choose_file(self, selector: str, path: Path) -> None:
        """What the file dialogue does."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def photograph(self, target: Path, *, whole: bool = True) -> None:
        """A PNG of the page, with what would be scrolled to."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        target.write_bytes(base64.b64decode(shot["data"]))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv())
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(parameters["exceptionDetails"])[:500])
        elif event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.complaints.append(parameters["entry"]["text"])

    def _set_up(self) -> None:
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.call(f"{domain}.enable")
        width, height = self._size
        mobile = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        scheme = "dark" if self._dark else "light"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def _tab(self) -> str:
        """The address of the first tab, by the port that Chromium chose and wrote down."""
        written = Path(self._profile.name) / "DevToolsActivePort"
        wait_until(lambda: written.is_file() and written.read_text().strip(), what="Chromium", timeout_seconds=60)
        port = written.read_text().split()[0]
        return str(wait_until(lambda: _page_of(port), what="a tab", timeout_seconds=START_SECONDS))

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._profile.cleanup()


def _page_of(port: str) -> str | None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as answer:
        tabs = json.load(answer)
    return next((tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page"), None)
