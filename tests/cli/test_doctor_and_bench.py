"""shmq doctor finds what is wrong, and shmq bench measures what it says."""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path

import pytest

from shared_multiprocess_queue import inspect, list_queues
from shared_multiprocess_queue._engine import choice
from shared_multiprocess_queue._platform import atomic_words, processes
from shared_multiprocess_queue._ring import layout
from shared_multiprocess_queue.cli import doctor
from stress.hostile import staging
from tests.support.children import fork
from tests.support.damage import poke
from tests.support.looks import path_of
from tests.support.queues import MakeQueue
from tests.support.shmq import shmq, shmq_json

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at segments as files")


@pytest.fixture
def alone(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the doctor see the queues of this test only."""
    monkeypatch.setattr(doctor, "list_queues", lambda: list_queues(f"{run_id}-*"))


def findings(code: int = 0) -> list[tuple[str, str, str]]:
    found = shmq_json("doctor", code=code)["findings"]
    return [(one["check"], one["verdict"], one["text"]) for one in found]


def verdicts(check: str, code: int = 0) -> list[tuple[str, str]]:
    return [(verdict, text) for name, verdict, text in findings(code) if name == check]


@pytest.mark.usefixtures("alone")
def test_a_machine_that_is_well() -> None:
    code, output, errors = shmq("doctor")
    assert (code, errors) == (0, "")
    assert "wrong" not in [line.split()[0] for line in output.splitlines()]
    ((verdict, text),) = verdicts("engine atomics")
    assert verdict == "fine"
    assert "an item went through a queue, and its doorbell rang" in text
    assert len(verdicts("engine native")) == 1


@pytest.mark.usefixtures("alone")
def test_the_largest_queue_is_one_that_is_there(make_queue: MakeQueue) -> None:
    """What it takes is no limit for other queues."""
    ((_, text),) = verdicts("shared memory")
    assert text.endswith(" left")
    make_queue(capacity=2, item_size=1 << 19)
    ((_, text),) = verdicts("shared memory")
    assert " left; the largest of the queues that are there takes up to 2." in text


@pytest.mark.usefixtures("alone")
def test_what_is_wrong_with_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def no_table() -> None:
        raise ImportError("another release of atomics is needed")

    with monkeypatch.context() as patch:
        patch.setattr(doctor, "reserve_and_give_back", no_memory)
        patch.setattr(doctor, "space", lambda: (64 << 20, 1 << 20))
        first, second = verdicts("shared memory", code=1)
        assert (first[0], second) == ("look", ("wrong", "1.0 MiB in /dev/shm cannot be had: No space left on device"))
    with monkeypatch.context() as patch:
        patch.setattr(atomic_words, "prepare", no_table)
        assert verdicts("atomic words", code=1) == [("wrong", "another release of atomics is needed")]
    with monkeypatch.context() as patch:
        patch.setattr(processes, "_identity", processes.Identity(os.getpid(), 1, 0))
        assert verdicts("processes", code=1)[0][0] == "wrong"
    with monkeypatch.context() as patch:
        patch.setattr(choice, "_native", None)
        assert verdicts("engine native")[0][0] == "look"


def test_whether_systemd_removes_queues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The main file of the first place counts, then those beside it, by name; of one name that of the first place."""
    places = [tmp_path / "etc", tmp_path / "lib"]
    monkeypatch.setattr(doctor, "_LOGIN_PLACES", tuple(map(str, places)))

    def write(file: str, text: str) -> bool:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return doctor._removes_ipc()

    assert doctor._removes_ipc()
    assert not write("lib/logind.conf", "[Login]\nRemoveIPC=no\n")
    assert write("etc/logind.conf", "[Login]\n#RemoveIPC=no\n")
    assert not write("lib/logind.conf.d/20-own.conf", "[Login]\nRemoveIPC = false\n")
    assert not write("etc/logind.conf.d/10-own.conf", "[Login]\nRemoveIPC=yes\n")
    assert write("etc/logind.conf.d/20-own.conf", "[Login]\n")
    assert not write("lib/logind.conf.d/30-own.conf", "[Login]\nRemoveIPC=no\n")


@pytest.mark.usefixtures("alone")
def test_what_is_wrong_with_queues(make_queue: MakeQueue, run_id: str) -> None:
    make_queue("idle").close()
    poke(path_of(make_queue("old")), layout.VERSION_AT, b"\1")
    found = verdicts("queues")
    assert ("fine", "2 queues of this user") in found
    assert [text for verdict, text in found if verdict == "look" and "without a user" in text]
    assert [text for verdict, text in found if verdict == "look" and f"{run_id}-old: it has layout 1" in text]
    poke(path_of(make_queue("damaged")), layout.CAPACITY_AT, b"\xff")
    assert [text for verdict, text in verdicts("queues", code=1) if verdict == "wrong" and "is damaged" in text]


@pytest.mark.usefixtures("alone")
def test_a_paused_process_in_the_way_is_named(make_queue: MakeQueue) -> None:
    q = make_queue(engine="atomics")
    child = fork(signal.pause)
    try:
        os.kill(child, signal.SIGSTOP)
        os.waitpid(child, os.WUNTRACED)
        stage = staging.Stage(q)
        stage.participant(1, alive=True, put_begin=0, put_end=1)
        start = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[19])
        stage.write(layout.record_at(1) + layout.OWNER, layout.owner_of(child, start, 1))
        stage.write(layout.TAIL, 1)
        ((verdict, text),) = verdicts("blockers", code=1)
        assert (verdict, f"process {child} is paused in a put" in text) == ("wrong", True)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    look = inspect("q", q.run_id).look
    assert look is not None
    assert look.count("dead") == 1


@pytest.mark.slow
def test_bench_measures_each_engine() -> None:
    found = shmq_json("bench", "--seconds", 0.05)
    assert set(found["engines"]) == ({"native", "atomics"} if choice.has_native() else {"atomics"})
    for figures in found["engines"].values():
        assert all(value > 0 for value in figures.values())
        assert figures["round_trip_us"] <= figures["round_trip_p99_us"]
    assert shmq("bench", "--seconds", 0).code == 2
