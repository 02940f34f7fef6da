"""Drives a browser by its own protocol, through pipes."""

import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from contextlib import contextmanager

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-quic"),
)
_PATIENCE = 60  # seconds for an answer


def installed_browser():
    """The path of a browser; skips the test where there is none."""
    found = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"none of these browsers is installed: {', '.join(BROWSERS)}")
    return found


@contextmanager
def started(profile, *options):
    """A browser that runs while the block does."""
    ours, its = os.pipe(), os.pipe()  # what it reads, and what it writes
    given = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (ours[0], its[1])]
    os.close(ours[0])
    os.close(its[1])
    command = [installed_browser(), *QUIET, *options, f"--user-data-dir={profile}"]
    command += ["--remote-debugging-pipe", "about:blank"]
    # It reads from descriptor 3 and writes to descriptor 4.
    script = f'exec "$@" 3<&{given[0]} 4>&{given[1]}'
    process = subprocess.Popen(
        ["bash", "-c", script, "bash", *command],
        pass_fds=given,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for end in given:
        os.close(end)
    browser = Browser(its[0], ours[1])
    try:
        yield browser
        browser.call("Browser.close")
        process.wait(_PATIENCE)
    finally:
        process.kill()
        process.wait()
        os.close(ours[1])
        os.close(its[0])


class Browser:
    """Calls and events of a browser."""

    def __init__(self, source, sink):
        self._source, self._sink = source, sink
        self._asked, self._answers, self._rest = 0, {}, b""
        self.events = []  # of all pages and workers, as they came

    def call(self, method, session=None, **parameters):
        """The result of a call."""
        self._asked += 1
        message = {"id": self._asked, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._sink, json.dumps(message).encode() + b"\0")
        number = self._asked
        while number not in self._answers:
            self._take(self._read())
        answer = self._answers.pop(number)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def open(self, address):
        """A new page."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._watch(session)
        options = {"autoAttach": True, "waitForDebuggerOnStart": False, "flatten": True}
        self.call("Target.setAutoAttach", session, **options)
        self.call("Page.enable", session)
        self.call("Page.navigate", session, url=address)
        return Page(self, session)

    def _watch(self, session):
        for method in ("Runtime.enable", "Log.enable", "Network.enable"):
            self.call(method, session)

    def _take(self, message):
        if "id" in message:
            self._answers[message["id"]] = message
            return
        self.events.append(message)
        attached = message["params"].get("targetInfo", {})
        if message["method"] == "Target.attachedToTarget" and attached["type"] == "worker":
            self._watch(message["params"]["sessionId"])

    def _read(self):
        deadline = time.monotonic() + _PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._source], [], [], deadline - time.monotonic())
            assert ready, "the browser does not answer"
            part = os.read(self._source, 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)


class Page:
    """A page and its workers."""

    def __init__(self, browser, session):
        self._browser, self._session = browser, session

    def evaluate(self, expression, session=None):
        """The value of a JavaScript expression, or that of its promise."""
        found = self._browser.call(
            "Runtime.evaluate",
            session or self._session,
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, condition):
        """Waits for a JavaScript expression to be true."""
        look = f"() => ({condition}) ? done() : setTimeout(look, 20)"
        self.evaluate(f"new Promise((done) => {{ const look = {look}; look(); }})")

    def text(self, selector):
        """What all elements of a selector say."""
        return self.evaluate(
            f"[...document.querySelectorAll({json.dumps(selector)})].map((each) => each.innerText)"
        )

    def choose(self, selector, *files):
        """Chooses files in an input."""
        root = self._browser.call("DOM.getDocument", self._session)["root"]["nodeId"]
        node = self._browser.call(
            "DOM.querySelector", self._session, nodeId=root, selector=selector
        )["nodeId"]
        self._browser.call(
            "DOM.setFileInputFiles", self._session, nodeId=node, files=[str(f) for f in files]
        )

    @property
    def worker(self):
        """The session of its worker."""
        return next(
            event["params"]["sessionId"]
            for event in self._of("Target.attachedToTarget")
            if event["params"]["targetInfo"]["type"] == "worker"
        )

    @property
    def complaints(self):
        """What was logged as an error or a warning, or thrown."""
        logged = [event["params"]["entry"] for event in self._of("Log.entryAdded")]
        said = [event["params"] for event in self._of("Runtime.consoleAPICalled")]
        return [
            *(each for each in logged if each["level"] in ("error", "warning")),
            *(each for each in said if each["type"] in ("error", "warning", "assert")),
            *self._of("Runtime.exceptionThrown"),
        ]

    @property
    def requests(self):
        """Addresses that it and its workers asked for."""
        return [
            event["params"]["request"]["url"] for event in self._of("Network.requestWillBeSent")
        ]

    def _of(self, method):
        workers = {
            event["params"]["sessionId"]
            for event in self._browser.events
            if event["method"] == "Target.attachedToTarget"
            and event.get("sessionId") == self._session
        }
        own = {self._session, *workers}
        return [
            event
            for event in self._browser.events
            if event["method"] == method and event.get("sessionId") in own
        ]
