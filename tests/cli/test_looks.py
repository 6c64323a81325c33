"""shmq ls, show, peek and wait: what they print, in which width, and their exit codes."""

from __future__ import annotations

import datetime
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from rich.console import Console, RenderableType

from shared_multiprocess_queue import inspect
from shared_multiprocess_queue._codec import tags
from shared_multiprocess_queue._platform import use_lock
from shared_multiprocess_queue._platform.segment_file import space
from shared_multiprocess_queue._ring import layout
from shared_multiprocess_queue.cli import screens
from shared_multiprocess_queue.looking import files
from shared_multiprocess_queue.looking.items import Items
from shared_multiprocess_queue.looking.previews import preview
from shared_multiprocess_queue.looking.rates import Changes
from stress.hostile import staging
from tests.support.children import fork, in_child
from tests.support.demo import COMMAND
from tests.support.looks import path_of
from tests.support.own_formats import Attack, from_json, ran, to_json
from tests.support.places import SHM
from tests.support.queues import MakeQueue
from tests.support.segments import MARK
from tests.support.shmq import shmq, shmq_json
from tests.support.waiting import LONG

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc and /dev/shm")


# ---- ls -------------------------------------------------------------------------------------------------------------


def test_ls_lists_queues_by_name(make_queue: MakeQueue, run_id: str, each_engine: str) -> None:
    make_queue("one", capacity=4).put(1)
    make_queue("two", capacity=1, item_size=100, mode="spsc").put(2)
    make_queue("two-old").close()
    code, output, errors = shmq("ls", f"{run_id}-*")
    rows = [line.split() for line in output.splitlines()[2:5]]
    assert [row[0] for row in rows] == [f"{run_id}-{name}" for name in ("one", "two", "two-old")]
    assert [(row[2], row[5]) for row in rows] == [("1", "4"), ("1", "1"), ("0", "3")]
    assert [" ".join(row[3:5]) for row in rows] == ["in use", "in use", "no user"]
    assert rows[1][-4:] == ["100", "B", "spsc", "pickle"]
    assert "3 queues, " in output
    assert (code, errors) == (0, "")


def test_the_name_of_a_segment_is_close_to_that_of_a_queue(make_queue: MakeQueue, run_id: str) -> None:
    make_queue("a")
    for command in ("show", "peek"):
        assert f"did you mean '{run_id}-a'?" in shmq(command, f"{run_id}-a-queue").errors
    assert "shmq ls" in shmq("show", f"{run_id}-b-queue").errors


def test_ls_of_nothing(run_id: str) -> None:
    code, output, _ = shmq("ls", f"{run_id}-*")
    assert (code, output.split(",")[0]) == (0, "0 queues")
    assert shmq("ls", "-q", f"{run_id}-*") == (0, "", "")
    assert shmq_json("ls", f"{run_id}-*")["queues"] == []


def test_ls_sorts(make_queue: MakeQueue, run_id: str) -> None:
    make_queue("a", capacity=2)
    make_queue("b", capacity=100).put(1)
    make_queue("c", capacity=3).put_batch([1, 2])
    for order, expected in (("name", "abc"), ("items", "cba"), ("memory", "bca"), ("age", "abc")):
        _, output, _ = shmq("ls", "-q", "--sort", order, f"{run_id}-*")
        assert "".join(line[-1] for line in output.splitlines()) == expected


def test_names_are_data(run_id: str) -> None:
    """They hold markup, control characters, bytes that are no text, and marks that turn the direction of writing."""
    names = [f"{run_id}-{name}" for name in ("[red]x", "a\nb", "\x1b[31mc", "d\udce9", "e\u202etxt", ":smile:")]
    for name in names:
        (SHM / f"{name}-queue").write_bytes(b"")
    try:
        code, output, _ = shmq("ls", f"{run_id}-*")
        assert code == 0
        for shown in ("[red]x", r"a\nb", r"\x1b[31mc", r"d\udce9", r"e\u202etxt", ":smile:"):
            assert f"{run_id}-{shown} " in output
        assert sorted(queue["name"] for queue in shmq_json("ls", f"{run_id}-*")["queues"]) == sorted(names)
        for name in names:
            assert shmq("show", name).code == 5
    finally:
        for name in names:
            (SHM / f"{name}-queue").unlink()


def test_ls_leaves_out_what_is_no_queue(run_id: str) -> None:
    path = SHM / f"{run_id}-data-queue"
    path.write_bytes(b"some other program's data" * 10)
    try:
        assert shmq("ls", "-q", f"{run_id}-*").output == ""
        assert shmq("ls", "-q", "--all", f"{run_id}-*").output == f"{run_id}-data\n"
        assert shmq("show", f"{run_id}-data").code == 5
    finally:
        path.unlink()


@pytest.mark.costly
@pytest.mark.parametrize("width", [60, 80, 120])
def test_tables_fit_the_terminal(make_queue: MakeQueue, run_id: str, width: int) -> None:
    """What does not fit goes from the right, whole columns of it, and no line is wrapped."""
    make_queue("with-a-very-long-name-" + "x" * 100, leases=2).put("an item " * 20)
    queues = [inspect(name) for name in shmq("ls", "-q", f"{run_id}-*").output.split()]
    changes = Changes().note(queues)
    rows = [(queue, changes[queue.name]) for queue in queues]
    lines = printed(width, lambda screen: [screens.table(screen, screens.LIST, queues)])
    lines += printed(
        width, lambda screen: [screens.table(screen, screens.TOP, rows), screens.summary(queues, *space())]
    )
    assert max(map(len, lines)) <= width
    assert lines[0].split()[:2] == ["QUEUE", "FILL"]
    assert len([line for line in lines if "QUEUE" in line]) == 2
    assert [("AGE" in lines[0]), ("STATE" in lines[0])] == [width == 120, True]
    assert "…" in lines[2], "a long name is cut"
    assert lines[-1].startswith("1 queue, "), "the summary is one line"


@pytest.mark.costly
@pytest.mark.parametrize("width", [60, 80, 120])
def test_what_is_short_keeps_its_width(make_queue: MakeQueue, run_id: str, width: int) -> None:
    """Of all columns of processes and of items the last one is cut, and its end says so."""
    make_queue("with-a-very-long-name-" + "x" * 100, leases=2).put_batch(["an item " * 20, b"\x00" * 1000])
    child = fork(signal.pause)
    try:
        (queue,) = [inspect(name) for name in shmq("ls", "-q", f"{run_id}-*").output.split()]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert queue.look is not None
    processes = tuple(replace(one, command="python " + "long " * 40) for one in queue.look.processes)
    queue = replace(queue, look=replace(queue.look, processes=processes))
    items = Items(queue.name)
    shown = [(one, preview(one.payload or b"", one.tag or 0, 10_000)) for one in items.next(2)]
    items.close()
    lines = printed(width, lambda screen: [screens.one_queue(screen, queue, screens.items_table(screen, shown))])
    assert max(map(len, lines)) <= width
    assert "…" in lines[0], "its long name is cut"
    rows = {tuple(line.strip("│ ").split()[:3]): line for line in lines}
    mine, other = rows[str(os.getpid()), "1", "alive"], rows[str(child), "0", "alive"]
    assert " nothing " in mine
    assert " not used yet " in other
    first, second = rows["0", "160", "text"], rows["1", "1,000", "bytes"]
    assert all(line.endswith("… │") for line in (mine, other, first, second))


def test_a_narrow_terminal_cuts_no_number(make_queue: MakeQueue, run_id: str) -> None:
    q = make_queue(leases=2)
    q.put("an item")
    with q.lease():
        queue = inspect(f"{run_id}-q", "")
    assert queue.look is not None
    pid = 4_194_303
    many = [replace(one, pid=pid) for one in queue.look.processes]
    leased = [replace(one, pid=pid) for one in queue.look.leased]
    queue = replace(queue, look=replace(queue.look, processes=tuple(many), leased=tuple(leased)))
    for width in (24, 30, 45, 59):
        lines = printed(width, lambda screen: [screens.one_queue(screen, queue, None)])
        assert max(map(len, lines)) <= width
        tables = [line.strip("│ ").split() for line in lines if str(pid) in line]
        assert [row[at] for row, at in zip(tables, (0, 1), strict=True)] == [str(pid)] * 2, width
        assert all("…" not in word for row in tables for word in row[:4])


def printed(width: int, parts: Callable[[Console], Sequence[RenderableType]]) -> list[str]:
    """Return the lines that a terminal of some columns shows."""
    with open(os.devnull, "w") as nowhere:
        screen = Console(width=width, force_terminal=True, color_system=None, record=True, file=nowhere)
        for part in parts(screen):
            screen.print(part)
        return screen.export_text().splitlines()


# ---- show -----------------------------------------------------------------------------------------------------------


def test_show_tells_all(make_queue: MakeQueue, run_id: str, each_engine: str) -> None:
    q = make_queue(capacity=4, leases=2)
    q.put_batch([1, "two", {"three": 3}])
    lease = q.lease()
    child = fork(signal.pause)
    try:
        code, output, _ = shmq("show", "q", "--run-id", run_id)
        assert code == 0
        for text in ("2 of 4", "mode mpmc", "3 put, 1 taken", "1 of 2 held", "in use      yes; 2 processes", "'two'"):
            assert text in output
        rows = {line.split()[1]: line for line in output.splitlines() if line.startswith("│") and len(line.split()) > 4}
        assert " alive " in rows[str(os.getpid())]
        assert "not used yet" in rows[str(child)]
        found = shmq_json("show", f"{run_id}-q")["queue"]
        assert {one["pid"]: one["records"] for one in found["look"]["processes"]}[child] == 0
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        lease.done()


def test_dead_letters_are_shown(make_queue: MakeQueue, run_id: str) -> None:
    q = make_queue(leases=2, max_deliveries=1)
    q.put("bad")
    q.lease(block=False).release()
    shown = shmq_json("show", f"{run_id}-q")["queue"]
    assert shown["look"]["dead_letters"] == 1
    assert "dead letters" in shmq("show", f"{run_id}-q").output
    assert f'shmq_dead_letters{{queue="{run_id}-q"}} 1.0' in shmq("metrics", f"{run_id}-q").output


def test_show_says_that_a_blocker_is_paused(make_queue: MakeQueue, run_id: str) -> None:
    q = make_queue(capacity=2, engine="atomics")
    child = fork(signal.pause)
    try:
        os.kill(child, signal.SIGSTOP)
        os.waitpid(child, os.WUNTRACED)
        stage = staging.Stage(q)
        stage.participant(1, alive=True, put_begin=0, put_end=1)
        start = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[19])
        stage.write(layout.record_at(1) + layout.OWNER, layout.owner_of(child, start, 1))
        stage.write(layout.TAIL, 1)
        output = shmq("show", f"{run_id}-q").output
        assert f"process {child}: put at 0" in output
        found = {one["pid"]: one for one in shmq_json("show", f"{run_id}-q")["queue"]["look"]["processes"]}
        assert (found[child]["state"], found[child]["doing"]) == ("paused", "put 0")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.costly
@pytest.mark.parametrize("state", staging.STATES)
def test_show_and_peek_of_any_state_print_and_write_nothing(make_queue: MakeQueue, run_id: str, state: str) -> None:
    q = make_queue(capacity=3, engine="atomics")
    staging.STATES[state](staging.Stage(q), Random(5))
    path = path_of(q)
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert shmq("show", f"{run_id}-q").code in (0, 5)
    assert shmq("peek", f"{run_id}-q").code == 0
    shmq_json("ls", f"{run_id}-*")
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_exit_codes(make_queue: MakeQueue, run_id: str) -> None:
    assert shmq("show", f"{run_id}-none").code == 3
    assert shmq("peek", f"{run_id}-none").code == 3
    assert shmq("show", "../escape").code == 3
    assert shmq("show").code == 2
    q = make_queue()
    staging.Stage(q).write(layout.VERSION_AT, 1)
    for command in ("show", "peek"):
        code, output, errors = shmq(command, f"{run_id}-q")
        assert code == 5
        assert "layout" in output + errors
    assert shmq_json("ls", f"{run_id}-*")["queues"][0]["layout"] == 1


def test_another_users_queue_is_denied_and_not_listed(make_queue: MakeQueue, run_id: str) -> None:
    if os.geteuid():
        pytest.skip("only root can become another user")
    make_queue()
    name = f"{run_id}-q"
    assert shmq("show", name).code == 0  # all that is imported later is there

    def as_another_user() -> None:
        os.setgid(65534)
        os.setuid(65534)
        assert shmq("ls", "-q", name).output == ""
        assert shmq("ls", "-q", "--all", name).output == f"{name}\n"
        assert [shmq(command, name).code for command in ("show", "peek", "wait")] == [4, 4, 4]
        assert shmq("rm", "--force", name).code == 4
        assert shmq("gc", "--yes", "--with-items", name).output == "no queue without a user\n0 queues removed\n"

    assert in_child(as_another_user) == 0


def test_another_users_file_is_not_opened(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file away")
    path = SHM / f"{run_id}-q-queue"
    path.write_bytes(b"x")
    try:
        os.chown(path, 65534, 65534)
        with monkeypatch.context() as patch:
            patch.setattr(files, "SegmentFile", lambda name: pytest.fail(f"{name} was opened"))
            assert shmq("ls", "-q", f"{run_id}-*") == (0, "", "")
        assert shmq("ls", "-q", "--all", f"{run_id}-*").output == f"{run_id}-q\n"
    finally:
        path.unlink()


@pytest.mark.slow
def test_a_closed_stdout_and_one_of_ascii(make_queue: MakeQueue, run_id: str) -> None:
    make_queue().put(1)
    for command in (["drain", "--yes"], ["ls"], ["top", "--once"]):
        closed = ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, *command, f"{run_id}-q"]
        done = subprocess.run(closed, stderr=subprocess.PIPE, text=True, timeout=LONG, check=False)
        assert (done.returncode, done.stderr) == (
            1,
            "Error: stdout is closed; send it to /dev/null if it is not wanted\n",
        )
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [*COMMAND, "bench", "--seconds", "0.05"]
    done = subprocess.run(command, env=ascii_only, capture_output=True, text=True, timeout=LONG, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert " us\n" in done.stdout


# ---- peek -----------------------------------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (os.environ["BOMB"],)


def test_peek_into_a_damaged_queue_says_so(make_queue: MakeQueue, run_id: str) -> None:
    staging.Stage(make_queue(engine="atomics")).write(layout.HEAD, 99)
    code, _, errors = shmq("peek", f"{run_id}-q")
    assert code == 5
    assert "is damaged" in errors
    assert shmq_json("peek", f"{run_id}-q", code=5)["items"] == []


def test_peek_shows_items_and_takes_none(make_queue: MakeQueue, run_id: str, each_engine: str) -> None:
    q = make_queue(capacity=20)
    items = [7, "text [b]\x1b", b"raw", None, True, 1.5, {"day": datetime.date(2024, 2, 29)}, Path("x"), "z" * 9000]
    q.put_batch(items)
    found = shmq_json("peek", f"{run_id}-q")["items"]
    assert [one["position"] for one in found] == list(range(len(items)))
    assert [one["content"] for one in found[:6]] == [repr(item) for item in items[:6]]
    assert "pathlib" in found[7]["content"]
    assert found[8]["kind"] == "deflated"
    assert shmq("peek", "-n", 2, f"{run_id}-q").output.count("\n") == 4
    assert q.qsize() == len(items)
    assert q.get_batch(20) == items
    assert shmq("peek", f"{run_id}-q") == (0, "", "no items\n")


def test_peek_runs_no_code_unless_asked_to(
    make_queue: MakeQueue, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = tmp_path / "it went off"
    monkeypatch.setenv("BOMB", str(bomb))
    make_queue().put(Bomb())
    (item,) = shmq_json("peek", f"{run_id}-q")["items"]
    assert item["content"] == "posix.mkdir"
    assert shmq("show", f"{run_id}-q").code == 0
    assert shmq("peek", "--unpickle", f"{run_id}-q", answer="n\n").code == 1
    assert not bomb.exists()
    assert shmq("peek", "--unpickle", f"{run_id}-q", answer="y\n").code == 0
    assert bomb.exists()


def test_formats_are_shown_and_items_of_other_formats_not_loaded(make_queue: MakeQueue, run_id: str) -> None:
    """Also not if a hostile program has put a pickle into a queue that takes none."""
    own = make_queue("own", dumps=to_json, loads=from_json)
    own.put({"a": 1})
    plain = make_queue("plain", serializer="plain", engine="atomics")
    plain.put("a text")
    stage = staging.Stage(plain)
    stage.slot(1, layout.FULL, payload=pickle.dumps(Attack("peek")), meta=tags.PICKLE)
    stage.write(layout.TAIL, 2)
    for options in ([], ["--unpickle", "--yes"]):
        (item,) = shmq_json("peek", *options, f"{run_id}-own")["items"]
        assert (item["kind"], item["content"]) == ("own", repr(to_json({"a": 1})))
        first, second = shmq_json("peek", *options, f"{run_id}-plain")["items"]
        assert first["content"] == "'a text'"
        assert "append" in second["content"] or "getattr" in second["content"]
    assert ran == []
    looks = {queue["name"]: queue["look"]["serializer"] for queue in shmq_json("ls", f"{run_id}-*")["queues"]}
    assert looks == {f"{run_id}-own": own.serializer, f"{run_id}-plain": "plain"}
    assert own.serializer in shmq("show", f"{run_id}-own").output


# ---- wait -----------------------------------------------------------------------------------------------------------


def test_wait_for_items_emptiness_and_shutdown(make_queue: MakeQueue, run_id: str, each_engine: str) -> None:
    q = make_queue()
    name = f"{run_id}-q"
    assert shmq("wait", name, "--items", 2, "--timeout", "10ms").code == 2
    assert shmq("wait", name, "--items", 2, "--timeout", 0.01).errors.endswith(
        f"waited 0.01 s for {name} in vain: it has 0 items\n"
    )
    q.put_batch([1, 2])
    assert shmq_json("wait", name, "--items", 2)["queue"]["look"]["items"] == 2
    assert shmq("wait", name, "--empty", "--timeout", 0).code == 1
    q.get_batch(2)
    assert shmq("wait", name, "--empty") == (0, "", "")
    assert shmq("wait", name, "--shutdown", "--timeout", "0s").code == 1
    q.shutdown()
    assert shmq("wait", name, "--shutdown").code == 0
    assert shmq("wait", name, "--shutdown", "--empty").code == 2
    assert shmq("wait", f"{run_id}-none", "--empty").code == 3
    found = shmq("wait", f"{run_id}-none", "--timeout", 0.01)
    assert (found.code, found.errors.partition(" in vain: ")[2]) == (1, "there is no such queue\n")


def test_wait_ends_when_it_comes_true(make_queue: MakeQueue, run_id: str) -> None:
    """A queue that is not there yet, then its items, then its end."""
    command = [*COMMAND, "wait", f"{run_id}-q"]
    with subprocess.Popen(command) as waiting:
        q = make_queue()
        assert waiting.wait(LONG) == 0
    with subprocess.Popen([*command, "--items", "1"]) as waiting:
        q.put("an item")
        assert waiting.wait(LONG) == 0
    with subprocess.Popen([*command, "--empty"], stderr=subprocess.PIPE, text=True) as waiting:
        q.close()
        q.unlink()
        _, errors = waiting.communicate(timeout=LONG)
        assert waiting.returncode == 3
        assert "there is no queue" in errors


def test_commands_agree_on_a_leftover(run_id: str) -> None:
    """No process makes it, so there is nothing to wait for, but that another process makes the queue anew."""
    path, name = SHM / f"{run_id}-q-queue", f"{run_id}-q"
    path.write_bytes(MARK + bytes(5000))
    try:
        why = "its creation has not ended, and no process uses it"
        assert why in shmq("show", name).output
        assert shmq("show", name).code == 5
        for command in (["peek"], ["drain", "--yes"], ["metrics"], ["wait", "--items", 1], ["wait", "--empty"]):
            code, output, errors = shmq(*command, name)
            assert (code, output) == (5, ""), command
            assert errors.endswith(f"{why}; shmq gc removes it\n"), command
        code, _, errors = shmq("wait", name, "--timeout", 0)
        assert (code, errors) == (1, f"Error: waited 0 s for {name} in vain: {why}\n")
        with path.open("rb") as creator:
            assert use_lock.share(creator.fileno())
            assert shmq("wait", name, "--items", 1, "--timeout", 0).errors.endswith(": a process is making it\n")
            code, _, errors = shmq("peek", name)
            assert (code, errors) == (
                5,
                f"Error: {name} cannot be looked into: a process is making it; look again in a moment\n",
            )
    finally:
        path.unlink()


SAYS_WHEN_IT_WAITS = """
from shared_multiprocess_queue.cli import app, looks

class Signals(looks.StopSignals):
    def __enter__(self):
        super().__enter__()
        print("here", flush=True)
        return self

looks.StopSignals = Signals
app.main()
"""


@pytest.mark.costly
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_wait(make_queue: MakeQueue, run_id: str, number: signal.Signals) -> None:
    make_queue()
    command = [sys.executable, "-c", SAYS_WHEN_IT_WAITS, "wait", f"{run_id}-q", "--items", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "here\n"
        waiting.send_signal(number)
        _, errors = waiting.communicate(timeout=LONG)
        assert (waiting.returncode, errors) == (128 + number, "")
