"""A headless Chromium that a test drives over two pipes, without any other package: the DevTools protocol as it is."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio",
         "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--hide-scrollbars", "--autoplay-policy=no-user-gesture-required", "--remote-debugging-pipe")  # fmt: skip
PATIENCE = 120.0
HEARD = '[...document.querySelectorAll(".lane")].filter((l) => l.dataset.heard === "true").map((l) => l.dataset.name)'
"""Names of the lanes of a page that are not muted."""
WATCHED = """
window.gains = [];
const made = AudioContext.prototype.createGain;
AudioContext.prototype.createGain = function () { const gain = made.call(this); window.gains.push(gain); return gain; };
"""
"""Keeps the gains that a page makes, for a script that is run before those of the page."""


class Browser:
    """One tab. `problems` are the errors that its pages wrote to the console, or did not catch."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back, self._buffer, self._count = to, back, b"", 0
        self._session: str | None = None
        self._events: list[dict[str, Any]] = []
        self.problems: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and give its result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._count:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def open(self, page: Path | str, *, dark: bool = False, width: int = 1280, height: int = 900) -> None:
        """Load a file as a person would who clicks on it, or an address."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self._events.clear()
        self.call("Page.navigate", url=page if isinstance(page, str) else page.absolute().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._next()

    def ask(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def give(self, selector: str, path: Path) -> None:
        """Choose a file in an input, as a person does in the dialog that it opens."""
        found = self.call("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})")
        self.call("DOM.setFileInputFiles", files=[str(path)], objectId=found["result"]["objectId"])

    def until(self, script: str) -> None:
        """Wait for an expression to be true."""
        end = time.monotonic() + PATIENCE
        while not self.ask(script):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.05)

    def press(self, key: str) -> None:
        """A key, as a person presses it: its name, or the letter."""
        code = {" ": 32, "ArrowRight": 39, "ArrowLeft": 37, "Home": 36}.get(key, ord(key[0]))
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def picture(self, path: Path) -> Path:
        """The whole page as a PNG."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))
        return path

    def _next(self) -> dict[str, Any]:
        """The next message; an event is kept, and a problem told by it too."""
        while b"\0" not in self._buffer:
            assert select.select([self._back], [], [], PATIENCE)[0], "the browser says nothing"
            part = os.read(self._back, 1 << 16)
            assert part, "the browser is gone"
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if "method" in message:
            self._events.append(message)
            self._judge(message["method"], message["params"])
        return message

    def _judge(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"]))
        if method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.problems.append(json.dumps(params["args"]))
        if method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(json.dumps(params["entry"]))


@contextmanager
def browser(home: Path) -> Iterator[Browser]:
    """A Chromium with an empty profile below `home`; it is gone afterwards."""
    assert CHROMIUM is not None
    theirs, to = os.pipe()
    back, ours = os.pipe()
    command = f'exec "$0" "$@" 3<&{theirs} 4>&{ours}'
    process = subprocess.Popen(
        ["bash", "-c", command, CHROMIUM, *FLAGS, f"--user-data-dir={home}", "about:blank"],
        pass_fds=(theirs, ours), env={**os.environ, "HOME": str(home)}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(theirs)
    os.close(ours)
    try:
        tab = Browser(to, back)
        yield tab
        tab._session = None
        tab.call("Browser.close")
    finally:
        os.close(to)
        os.close(back)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
