"""A headless Chromium, spoken to through its chromedriver: the WebDriver protocol is HTTP and JSON."""

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars",
)
PATIENCE = 120


def installed():
    """The paths of the browser and its driver; none where one of them is missing."""
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


class Browser:
    """One window."""

    def __init__(self, browser: str, driver: str) -> None:
        self.profile = tempfile.TemporaryDirectory(prefix="rankfold-browser-", ignore_cleanup_errors=True)
        self.process = subprocess.Popen(
            [driver, "--port=0"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        port = next((line.rstrip(".\n").rsplit(" ", 1)[1] for line in self.process.stdout if "successfully on port" in line), None)
        if port is None:
            self.process.wait()
            raise RuntimeError(f"{driver} ended with {self.process.returncode}")
        self.root = f"http://127.0.0.1:{port}"
        options = {"binary": browser, "args": [*FLAGS, f"--user-data-dir={self.profile.name}"]}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        try:
            session = self.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        except BaseException:
            self.close()
            raise
        self.root += f"/session/{session['sessionId']}"

    def call(self, method: str, path: str, body=None):
        """What the driver answers."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.root + path, data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"]) from None

    def devtools(self, command: str, **parameters):
        """What a command of the DevTools protocol answers."""
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def show(self, path: Path, width: int, scheme: str, media: str = "screen") -> None:
        """Opens a file in a window as tall as the page, so that all of it is in view."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.devtools("Emulation.setEmulatedMedia", media=media, features=features)
        self.resize(width, 900)
        self.call("POST", "/url", {"url": path.resolve().as_uri()})
        self.resize(width, self.run("return document.documentElement.scrollHeight"))

    def resize(self, width: int, height: int) -> None:
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def run(self, script: str, *arguments):
        """What a script returns."""
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def point_at(self, x: float, y: float) -> None:
        move = {"type": "pointerMove", "duration": 0, "origin": "viewport", "x": round(x), "y": round(y)}
        pointer = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": [move]}
        self.call("POST", "/actions", {"actions": [pointer]})

    def complaints(self) -> list:
        """What the console has said since the last time."""
        return [f"{entry['level']}: {entry['message']}" for entry in self.call("POST", "/se/log", {"type": "browser"})]

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("GET", "/screenshot")))

    def close(self) -> None:
        if "/session/" in self.root:
            try:
                self.call("DELETE", "")
            except (OSError, RuntimeError):
                pass
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        time.sleep(0.2)
        self.profile.cleanup()
