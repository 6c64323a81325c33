"""The schedule explorer, in its short form: both engines under schedules that choose an actor before each step."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable
from typing import get_args

import pytest
from rich.console import Console

from shared_multiprocess_queue._platform.atomic_words import Words
from shared_multiprocess_queue._ring.claim import Held
from shared_multiprocess_queue._ring.leases import Leases
from stress import planted
from stress.explore.corpus import programs
from stress.explore.program import Program, ProgramError, parse_program, parse_schedule, schedule_text
from stress.explore.run import Plan, run, run_planted
from stress.explore.scheduler import Violation
from stress.explore.verdict import Call, History, judge
from stress.explore.worlds import open_world
from stress.harness.copies import default_compiler
from stress.harness.engines import Engines

COMPILER = default_compiler()
SEED = 20240229


pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which(COMPILER) is None, reason="needs a C compiler, and futexes"
)


def explored(engines: Engines, schedules: int, draws: int = 0, program: str = "") -> str:
    """Explore; return what was said if a rule was broken, and nothing otherwise."""
    heard = io.StringIO()
    ok = run([Plan(engines, schedules, draws, SEED, program, "", COMPILER)], Console(file=heard, width=200))
    return "" if ok else heard.getvalue()


INTERRUPTED = [program for program in programs("atomics") if "!" in str(program)]


@pytest.mark.parametrize("program", INTERRUPTED, ids=str)
def test_the_interrupts_of_the_corpus_come(program: Program) -> None:
    """They are at functions of the engine, which may get other names."""
    with open_world(program) as world:
        world.run(())
    ended: dict[tuple[int, str], list[int | None]] = {}
    for call in world._history.calls:
        ended.setdefault((call.actor, call.name), []).append(call.ended)
    for number, actor in enumerate(program.actors):
        for i, step in enumerate(actor.steps):
            place = [before.call for before in actor.steps[:i]].count(step.call)
            assert step.interrupt is None or ended[number, step.call][place] is None, "no interrupt has ended the call"


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["a", "n"])
def test_a_put_is_not_refused_because_of_a_get_that_ends_while_it_looks(engine: str) -> None:
    """It found no live get for the slot, because that had just ended, and took the item for one of the dead."""
    program = f"mpmc 1 1 {engine}:take {engine}:take {engine}:put"
    assert not explored("native" if engine == "n" else "atomics", 2_500, program=program)


@pytest.mark.costly
@pytest.mark.parametrize(
    ("program", "schedules"),
    [
        ("mpmc 1 0 a:put a:put_wait a:take!*", 300),
        ("mpmc 1 0 a:put a:put_wait a:take!*", 1_500),
        ("mpmc 1 0 a:take_wait a:put!*", 1_500),
    ],
    ids=["get, in short", "get", "put"],
)
def test_an_interrupted_call_wakes_who_waits_for_what_it_did(program: str, schedules: int) -> None:
    """An interrupt between the change and its wake must not leave a waiter asleep until the end of its slice."""
    assert not explored("atomics", schedules, program=program)


def test_a_look_at_letters_gives_no_item_one_more_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has seen a burial that goes on in a lease slot; then another item comes there, and its getter dies."""
    buriers = []

    def note(leases: Leases, words: Words, held: Held, bury: Callable[..., bool] = Leases.bury) -> bool:
        buriers.append(world.scheduler.current and world.scheduler.current.number)
        return bury(leases, words, held)

    monkeypatch.setattr(Leases, "bury", note)
    with open_world(parse_program("mpmc:1:1 2 2 a:lease+release a:drop a:lease+done")) as world:
        world.run(parse_schedule("48>1 50>0 58>2 86x"))
    assert buriers == [0, 1], "the schedule does not fit: the look found no further item there"


@pytest.mark.slow
@pytest.mark.parametrize("engines", get_args(Engines))
def test_no_schedule_breaks_a_rule(engines: Engines) -> None:
    assert not explored(engines, 4_750, draws=100)


@pytest.mark.slow
@pytest.mark.parametrize(
    "program",
    ["mpmc 1 0 a:take_await a:take_bell a:put", "mpmc 1 0 n:heir_await a:take_bell n:put"],
    ids=["two", "heirs"],
)
def test_no_schedule_loses_a_ring(program: str) -> None:
    """All programs together leave too few schedules for each: a bell has several steps, and so has its waker."""
    assert not explored("mixed", 400, program=program)


QUICK = (
    "python: announce a put after its claim",
    "python: withdraw a put before it is published",
    "python: publish before the payload is written",
    "python: announce a get after its claim",
    "python: say Empty while a put is under way",
    "python: no second read [S4] before a put is buried",
    "python: announce beyond the mark up to which scans go",
    "python: no patience with an operation that is about to end",
    "python: wake before the change",
    "python: a task that leaves does not wake the next",
    "native: keep the lock after the claim",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_found(name: str) -> None:
    """Those that are found soon; ``python -m stress explore --plant`` plants them all."""
    bug = planted.find(name)
    heard = io.StringIO()
    plan = Plan("atomics", 4_000, 0, SEED, "", "", COMPILER)
    assert run_planted(plan, Console(file=heard, width=200), [bug]), heard.getvalue()


# ---- the judge ------------------------------------------------------------------------------------------------------


def history(*calls: Call, filled: tuple[str, ...] = (), rest: tuple[str, ...] = (), capacity: int = 2) -> History:
    return History(capacity, list(filled), list(calls), [], list(rest))


def put(began: int, ended: int | None, *items: str, refused: bool = False, actor: int = 0) -> Call:
    answer = None if refused or ended is None else list(items)
    return Call(actor, "batch" if len(items) > 1 else "put", list(items), began, ended, answer)


def take(began: int, ended: int | None, *items: str, held: tuple[str, ...] | None = None, actor: int = 1) -> Call:
    return Call(actor, "take2", [], began, ended, list(items) or None, None if held is None else list(held))


RIGHT = {
    "a put and a get": history(put(0, 5, "a"), take(5, 9, "a")),
    "Empty before a put": history(take(0, 5), put(5, 9, "a"), rest=("a",)),
    "Empty beside a put": history(put(0, 9, "a"), take(2, 5), rest=("a",)),
    "Full": history(put(0, 5, "b", refused=True), filled=("x", "y"), rest=("x", "y")),
    "a put that died happened": history(put(0, None, "a"), rest=("a",)),
    "a put that died did not happen": history(put(0, None, "a", "b")),
    "an item that died with its get": history(take(0, None, held=()), filled=("x",)),
    "an item of a dead get that came late": history(take(0, None, held=("x",)), filled=("x", "y"), rest=("y", "x")),
}


WRONG = {
    "lost": history(put(0, 5, "a")),
    "lost, and no get died with it": history(take(0, None, held=("x",)), filled=("x",)),
    "delivered more than once": history(put(0, 5, "a"), take(5, 9, "a"), rest=("a",)),
    "delivered and never put": history(take(0, 5, "a")),
    "delivered though its put was refused": history(put(0, 5, "a", refused=True), rest=("a",)),
    "lost, of a batch": history(put(0, None, "a", "b"), rest=("b",)),
    "no order, because of Empty": history(put(0, 5, "a"), take(5, 9), rest=("a",)),
    "no order, because of Full": history(take(0, 5), put(5, 9, "a", refused=True)),
    "no order, because of an older item": history(put(0, 5, "a"), put(5, 9, "b"), rest=("b", "a")),
    "no order, because of more than the capacity": history(
        put(0, 5, "a"), put(5, 9, "b"), filled=("x",), rest=("x", "a", "b")
    ),
}


@pytest.mark.parametrize("which", RIGHT)
def test_the_judge_accepts(which: str) -> None:
    judge(RIGHT[which])


@pytest.mark.parametrize("which", WRONG)
def test_the_judge_refuses(which: str) -> None:
    with pytest.raises(Violation, match=which.partition(",")[0]):
        judge(WRONG[which])


@pytest.mark.parametrize("text", ["mpmc 2 1 a:put+take n:batch", "spsc 1 0 a:take!17 A:put", "mpmc 3 3 n:join+take2"])
def test_a_program_is_its_text(text: str) -> None:
    assert str(parse_program(text)) == text


@pytest.mark.parametrize("text", ["", "mpmc", "mpmc 1 2 a:put", "lifo 1 0 a:put", "mpmc 1 0 b:put", "mpmc 1 0 a:pop"])
def test_what_is_no_program_is_refused(text: str) -> None:
    with pytest.raises(ProgramError, match="is no program"):
        parse_program(text)


def test_a_schedule_is_its_text() -> None:
    assert schedule_text(parse_schedule("3>1 9x 12>0 14x1")) == "3>1 9x 12>0 14x1"
    with pytest.raises(ProgramError, match="'9y' is no decision"):
        parse_schedule("3>1 9y")
