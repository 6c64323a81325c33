"""What a bridge says of items that cannot go over, and of a command that cannot be."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from typing import Any

import pytest
from click.testing import CliRunner

from shared_multiprocess_queue import bridge
from shared_multiprocess_queue.cli.app import main
from tests.remote.conftest import MakeRemote
from tests.support.queues import MakeQueue
from tests.support.servers import Server


def after(turns: int) -> Any:
    left = iter(range(turns))
    return lambda: next(left, None) is None


def test_it_is_said_once_that_no_lease_is_free(
    make_queue: MakeQueue, make_remote: MakeRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "_LOOK", 0.01)
    near, far = make_queue("near", leases=2), make_remote("far")
    near.put_batch([Fraction(1, 3), Fraction(1, 5), "behind them"])
    said: list[str] = []
    bridge.Bridge(near, far, "out", 4, after(3), said.append).run()
    first, _, last = said
    assert first.startswith("the item of position 0 of the local queue 'near' cannot go over, and is tried again in 60")
    assert last.startswith("no lease is free: 2 items cannot go over")
    assert "more leases" in last
    assert far.empty()


@pytest.fixture
def command(run_id: str, make_queue: MakeQueue, make_remote: MakeRemote) -> Any:
    """Run the command between "near" and "far", and return its exit code and what it says."""

    def run(local: str, url: str, *options: str, secret: str = "") -> tuple[int, str]:
        words = ["bridge", local, url, "--run-id", run_id, "--remote-run-id", run_id, *options]
        done = CliRunner().invoke(main, words, env={"SHMQ_SECRET": secret, "COLUMNS": "10000"})
        return done.exit_code, done.stderr

    return run


def test_arguments_that_cannot_be_are_named(command: Any, server: Server) -> None:
    code, text = command("redis://user:s3cret@host#far", "near")
    assert (code, "LOCAL is 'redis://***@host#far'" in text, "swapped" in text) == (2, True, True)
    code, text = command("near", "far")
    assert (code, "URL is 'far', without" in text) == (2, True)
    code, text = command("near", "redis://host:x#far")
    assert (code, "cannot be read" in text) == (2, True)
    code, text = command("near", server.url("far"), "--serializer", "pickle")
    assert (code, "SHMQ_SECRET, or --trust-the-server" in text) == (2, True)


def test_a_queue_that_is_not_there_is_named_with_its_option(command: Any, server: Server, make_remote: Any) -> None:
    code, text = command("near", server.url("far"))
    assert (code, f"the queue {server.url('far')} of the run_id" in text, "--remote-run-id" in text) == (3, True, True)
    assert "wait=" not in text
    make_remote("far")
    code, text = command("near", server.url("far"))
    assert (code, "the local queue 'near' of the run_id" in text, "and --run-id" in text) == (3, True, True)


def test_a_queue_that_does_not_fit_is_named(command: Any, server: Server, make_remote: Any, make_queue: Any) -> None:
    make_remote("far", secret=b"k" * 16)
    near = make_queue("near")
    code, text = command("near", server.url("far"))
    assert (code, f"{server.url('far')} cannot be read; its items are signed: set SHMQ_SECRET" in text) == (2, True)
    code, text = command("near", server.url("far"), secret=(b"k" * 16).hex())
    assert (code, "the local queue 'near' has no leases" in text) == (2, True)
    code, text = command("near", server.url("far"), "--direction", "in", secret=(b"k" * 16).hex())
    assert (code, f"the queue {server.url('far')} has no leases" in text) == (2, True)
    del near


def test_a_target_that_was_shut_down_is_named(command: Any, server: Server, make_remote: Any, make_queue: Any) -> None:
    make_queue("near", leases=1).put(1)
    make_remote("far").shutdown()
    code, text = command("near", server.url("far"))
    assert (code, f"the queue {server.url('far')} was shut down" in text) == (1, True)


def test_the_help_needs_no_client() -> None:
    script = "import sys; sys.modules['redis'] = None; from shared_multiprocess_queue.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "bridge", "--help"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "LOCAL" in done.stdout
