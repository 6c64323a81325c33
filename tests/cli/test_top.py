"""shmq top: rates of known traffic, and a terminal that is as before however it ends."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shared_multiprocess_queue import SharedMemoryQueue
from shared_multiprocess_queue._platform import clock
from tests.support.demo import COMMAND
from tests.support.queues import MakeQueue
from tests.support.shmq import check, shmq
from tests.support.waiting import LONG, eventually

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at segments as files")


def test_one_interval_is_printed_with_rates(
    make_queue: MakeQueue, run_id: str, each_engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The traffic is made while top sleeps."""
    q = make_queue(capacity=5)
    sleep = clock.sleep
    slept: list[float] = []

    def traffic(seconds: float) -> None:
        if not slept:
            for _ in range(400):
                q.put(1)
                q.get()
            q.put(1)
        slept.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(clock, "sleep", traffic)
    answer = shmq("top", "--once", "-d", 0.2, "--json", f"{run_id}-*")
    found = json.loads(answer.output)
    check(found)
    (queue,) = found["queues"]
    change = queue["change"]
    assert change["totals"]["put_total"] == 401
    assert change["rates"]["put_total"] == pytest.approx(401 / change["seconds"])
    assert change["rates"]["got_total"] == pytest.approx(400 / change["seconds"])
    assert change["seconds"] >= 0.2


def test_batches_are_printed_one_after_the_other(make_queue: MakeQueue, run_id: str) -> None:
    make_queue().put(1)
    code, output, errors = shmq("top", "-b", 2, "-d", 0.1, f"{run_id}-*")
    assert (code, errors) == (0, "")
    assert output.count("QUEUE") == 2
    assert output.count(f"{run_id}-q") == 2
    assert len(shmq("top", "-b", 3, "-d", 0.1, "--json", f"{run_id}-*").output.splitlines()) == 3
    assert shmq("top", "-d", 0.01).code == 2


def test_queues_that_come_go_and_cannot_be_read(
    make_queue: MakeQueue, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    q = make_queue("goes")
    sleep = clock.sleep
    slept: list[float] = []

    def change(seconds: float) -> None:
        if not slept:
            q.close()
            q.unlink()
            make_queue("comes")
            with open(f"/dev/shm/{run_id}-broken-queue", "wb"):
                pass
        slept.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(clock, "sleep", change)
    try:
        output = shmq("top", "--once", "-d", 0.1, f"{run_id}-*").output
    finally:
        os.unlink(f"/dev/shm/{run_id}-broken-queue")
    assert f"{run_id}-comes" in output
    assert f"{run_id}-goes" not in output
    assert "1 that cannot be looked into" in output


# ---- in a terminal --------------------------------------------------------------------------------------------------


class Terminal:
    """A terminal with shmq top in it."""

    def __init__(self, *arguments: str) -> None:
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
        self.process = subprocess.Popen(
            [*COMMAND, "top", "-d", "0.2", *arguments],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env=environment,
            start_new_session=True,
        )
        self.text = ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self.master, 65536)
            except OSError:
                return
            self.text += data.decode(errors="replace")

    def is_as_before(self) -> bool:
        """Whether its settings are those from before, the cursor can be seen, and the other screen is left."""
        settings = termios.tcgetattr(self.slave) == self.before
        return (
            settings
            and self.text.rfind("\x1b[?25h") > self.text.rfind("\x1b[?25l")
            and (self.text.rfind("\x1b[?1049l") > self.text.rfind("\x1b[?1049h"))
        )


@contextmanager
def terminal(q: SharedMemoryQueue) -> Iterator[Terminal]:
    """Give a terminal in which top has shown a queue, with rates."""
    found = Terminal(f"{q.run_id}-*")
    try:
        eventually(lambda: re.search(rf"{q.run_id}-q\S* .*\s0 ", found.text), "a screen with rates")
        assert termios.tcgetattr(found.slave) != found.before
        assert not found.is_as_before()
        yield found
        assert found.process.wait(LONG) is not None
        eventually(found.is_as_before, "the terminal as before")
    finally:
        found.process.kill()
        found.process.wait()
        os.close(found.slave)
        os.close(found.master)


@pytest.mark.costly
@pytest.mark.parametrize(
    ("keys", "code"), [(b"q", 0), (b"xQ", 0), (b"\x04", 0), (b"\x03", 130)], ids=["q", "Q", "end of input", "Ctrl-C"]
)
def test_keys_that_quit(make_queue: MakeQueue, keys: bytes, code: int) -> None:
    with terminal(make_queue()) as found:
        if keys == b"\x03":  # the terminal is not the controlling one of the session
            found.process.send_signal(signal.SIGINT)
        os.write(found.master, keys)
    assert found.process.returncode == code


@pytest.mark.costly
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_that_quit(make_queue: MakeQueue, number: signal.Signals) -> None:
    with terminal(make_queue()) as found:
        found.process.send_signal(number)
        found.process.send_signal(number)
    assert found.process.returncode == 128 + number
    assert "Traceback" not in found.text


def test_it_goes_on_after_a_stop(make_queue: MakeQueue) -> None:
    q = make_queue()
    with terminal(q) as found:
        os.kill(found.process.pid, signal.SIGSTOP)
        os.kill(found.process.pid, signal.SIGCONT)
        q.put("it goes on")
        eventually(lambda: re.search(r"█[^\n]* 1 ", found.text), "the next screen")
        os.write(found.master, b"q")
    assert found.process.returncode == 0
