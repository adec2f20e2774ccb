"""A real browser for tests: Debian's Chromium, headless, over its own DevTools protocol.

One small library (websocket-client) carries it. Selenium would bring a driver program and a dozen
packages for the same few questions, and a dumped page would not tell console errors or typing.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest
import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--remote-debugging-port=0", "--hide-scrollbars"),
]


def program():
    """Path of a Chromium; installed by apt-get where there is none and root runs the tests."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None and shutil.which("apt-get") and os.geteuid() == 0:
        for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
            subprocess.run(["apt-get", "-qq", *command], check=False, stdout=subprocess.DEVNULL)
        found = shutil.which("chromium")
    if found is None:
        pytest.skip("no browser: Chromium is missing (Debian and Ubuntu: apt install chromium)")
    return found


class Browser:
    """A page in a browser of its own, to be used in a ``with`` block."""

    def __enter__(self):
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.process = subprocess.Popen(
            [program(), *FLAGS, f"--user-data-dir={self.profile.name}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port = self._port()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
            (page,) = [target for target in json.load(answer) if target["type"] == "page"]
        self.socket = websocket.create_connection(
            page["webSocketDebuggerUrl"], timeout=60, suppress_origin=True
        )
        self.sent = 0
        self.problems = []
        self.events = set()
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        self.socket.close()
        self.process.terminate()
        self.process.wait(30)
        self.profile.cleanup()

    def _port(self):
        path = Path(self.profile.name, "DevToolsActivePort")
        for _ in range(600):
            if path.exists() and path.read_text().count("\n"):
                return path.read_text().split("\n")[0]
            time.sleep(0.1)
        raise AssertionError("Chromium did not start in a minute")

    def ask(self, method, **parameters):
        """Send a command of the protocol and return its result; errors the page logs are kept."""
        self.sent += 1
        self.socket.send(json.dumps({"id": self.sent, "method": method, "params": parameters}))
        while True:
            answer = self._receive()
            if answer.get("id") == self.sent:
                assert "error" not in answer, answer
                return answer["result"]

    def _receive(self):
        message = json.loads(self.socket.recv())
        kind, told = message.get("method"), message.get("params", {})
        self.events.add(kind)
        if kind == "Runtime.exceptionThrown":
            self.problems.append(told["exceptionDetails"]["text"])
        elif kind == "Runtime.consoleAPICalled" and told["type"] in ("error", "assert"):
            self.problems.append(str(told["args"]))
        elif kind == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.problems.append(told["entry"]["text"])
        return message

    def open(self, path, width=1200, dark=False):
        """Open a file in a window so wide, with the colour scheme the user prefers."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.events.discard("Page.loadEventFired")
        self.ask("Page.navigate", url=Path(path).as_uri())
        while "Page.loadEventFired" not in self.events:
            self._receive()

    def value(self, expression):
        """Value of a JavaScript expression in the page."""
        result = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"]
        return result.get("value")

    def type(self, text):
        """Type into whatever has the focus."""
        self.ask("Input.insertText", text=text)

    def screenshot(self, path):
        """Save a picture of the whole page."""
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        Path(path).write_bytes(base64.b64decode(shot["data"]))
