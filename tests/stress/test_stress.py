"""The stress kit in short, and proof that its verdict can be a bad one."""

from __future__ import annotations

import io
import subprocess
import sys
from array import array
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random

import pytest
from rich.console import Console

from shared_multiprocess_queue._engine import choice
from stress import planted
from stress.chaos import command as chaos
from stress.chaos import storm
from stress.chaos.kill import KINDS, plan_round
from stress.harness import copies, items
from stress.harness.history import TORN, ConsumerHistory, ProducerHistory, Put, Verdict, item_id, judge
from stress.harness.logs import Log, Signals
from stress.harness.patches import apply_patch
from tests.support.places import REPOSITORY

WATCHDOG = 240  # seconds; ends a kit that hangs, and judges no speed


def put(first: int, size: int = 1, acknowledged: bool = True) -> Put:
    return Put(first, size, acknowledged)


def verdict_of(puts: Sequence[Put], *delivered: Sequence[int], asked: int | None = None) -> Verdict:
    """Judge producer 0, and consumers of which the first was killed in a call for ``asked`` items."""
    consumers = [
        ConsumerHistory(f"consumer {number}", [item_id(0, serial) for serial in serials])
        for number, serials in enumerate(delivered)
    ]
    if asked is not None:
        consumers[0] = ConsumerHistory("killed consumer", consumers[0].delivered, killed=True, asked=asked)
    return judge([ProducerHistory(0, puts)], consumers)


def numbers(verdict: Verdict) -> dict[str, int]:
    """The faults of a verdict, without those that are zero."""
    names = ("unaccounted", "lost", "doubled", "torn", "out_of_order", "cut")
    return {name: getattr(verdict, name) for name in names if getattr(verdict, name)}


# ---- the verdict ----------------------------------------------------------------------------------------------------


def test_nothing_wrong() -> None:
    verdict = verdict_of([put(0), put(1, 3), put(4)], [0, 2, 4], [1, 3])
    assert verdict.ok
    assert (verdict.acknowledged, verdict.delivered) == (5, 5)
    assert not numbers(verdict)


def test_nothing_happened() -> None:
    assert judge([], []).ok
    assert verdict_of([], []).ok


def test_lost() -> None:
    verdict = verdict_of([put(0), put(1), put(2)], [0, 2])
    assert not verdict.ok
    assert numbers(verdict) == {"lost": 1}
    assert verdict.findings == [
        "lost: item 1 of producer 0 never came, though its put returned (killed consumers explain 0 missing items)"
    ]


def test_doubled() -> None:
    verdict = verdict_of([put(0), put(1)], [0, 1], [1])
    assert not verdict.ok
    assert numbers(verdict) == {"doubled": 1}
    assert verdict.findings == ["doubled: item 1 of producer 0 was delivered 2 times"]


def test_doubled_although_never_acknowledged() -> None:
    assert numbers(verdict_of([put(0, acknowledged=False)], [0], [0])) == {"doubled": 1}


def test_torn() -> None:
    verdict = judge(
        [ProducerHistory(0, [put(0), put(1)])], [ConsumerHistory("consumer 0", [item_id(0, 0), item_id(0, 1), TORN])]
    )
    assert not verdict.ok
    assert numbers(verdict) == {"torn": 1}


@pytest.mark.parametrize("stranger", [item_id(0, 7), item_id(5, 0)], ids=["serial", "producer"])
def test_an_item_that_nobody_put_is_torn(stranger: int) -> None:
    verdict = judge([ProducerHistory(0, [put(0)])], [ConsumerHistory("consumer 0", [item_id(0, 0), stranger])])
    assert numbers(verdict) == {"torn": 1}
    assert "which nobody put" in verdict.findings[0]


def test_out_of_order() -> None:
    verdict = verdict_of([put(0), put(1), put(2)], [0, 2, 1])
    assert not verdict.ok
    assert numbers(verdict) == {"out_of_order": 1}
    assert verdict.findings == ["out of order: consumer 0 got item 1 of producer 0 after item 2"]


def test_order_is_judged_for_each_consumer_and_each_producer() -> None:
    assert verdict_of([put(0), put(1), put(2)], [2], [0, 1]).ok
    mixed = [item_id(0, 1), item_id(1, 0), item_id(0, 2), item_id(1, 1), item_id(1, 2)]
    producers = [ProducerHistory(0, [put(0), put(1), put(2)]), ProducerHistory(1, [put(0, 3)])]
    verdict = judge(producers, [ConsumerHistory("a", mixed), ConsumerHistory("b", [item_id(0, 0)])])
    assert verdict.ok


def test_late_items_are_allowed_where_a_consumer_was_killed() -> None:
    assert verdict_of([put(0), put(1), put(2)], [], [0, 2, 1], asked=0).ok


def test_a_batch_whose_producer_was_killed_comes_whole_or_not_at_all() -> None:
    assert verdict_of([put(0), put(1, 3, acknowledged=False)], [0]).ok
    assert verdict_of([put(0), put(1, 3, acknowledged=False)], [0, 1, 2, 3]).ok


def test_cut_batch() -> None:
    verdict = verdict_of([put(0), put(1, 3, acknowledged=False)], [0, 2, 3])
    assert not verdict.ok
    assert numbers(verdict) == {"cut": 1}
    assert verdict.findings == [
        "cut: of the batch 1 to 3 of producer 0, whose put did not return, 1 of 3 items never came"
    ]


def test_cut_batch_that_was_acknowledged_is_lost_as_well() -> None:
    assert numbers(verdict_of([put(0, 3)], [0, 2])) == {"lost": 1, "cut": 1}


def test_a_killed_consumer_explains_the_items_of_its_call() -> None:
    verdict = verdict_of([put(0), put(1), put(2, 2)], [], [0, 2], asked=2)
    assert verdict.ok
    assert numbers(verdict) == {"unaccounted": 2}


def test_a_killed_consumer_explains_no_more_than_that() -> None:
    verdict = verdict_of([put(0), put(1), put(2)], [], [0], asked=1)
    assert not verdict.ok
    assert numbers(verdict) == {"unaccounted": 1, "lost": 1}


def test_a_killed_consumer_explains_a_part_of_a_batch_once() -> None:
    """A part of a batch may be missing because of it, but only one."""
    part = put(1, 3, acknowledged=False)
    assert numbers(verdict_of([put(0), part], [], [0, 1, 3], asked=1)) == {"unaccounted": 1}
    assert numbers(verdict_of([put(0), part], [], [0, 1], asked=1)) == {"cut": 1}
    assert numbers(verdict_of([put(0), part], [], [1, 3], asked=1)) == {"unaccounted": 1, "cut": 1}


def test_a_living_consumer_explains_nothing() -> None:
    consumer = ConsumerHistory("consumer 0", [], killed=False, asked=1)
    assert numbers(judge([ProducerHistory(0, [put(0)])], [consumer])) == {"lost": 1}


def test_an_interrupted_put_happened_or_not_and_those_after_it_count() -> None:
    log = Log(10, Signals())
    log.intend(0, 1)
    log.acknowledge()
    log.intend(1, 3)
    log.give_up_put()
    log.intend(4, 1)
    log.acknowledge()
    assert list(log.puts()) == [put(0), put(1, 3, acknowledged=False), put(4)]


def test_an_interrupted_get_explains_nothing() -> None:
    log = Log(10, Signals())
    log.ask(2)
    log.give_up_get()
    assert log.as_consumer("consumer 0") == ConsumerHistory("consumer 0", array("Q"))


# ---- items and plans ------------------------------------------------------------------------------------------------


def test_items_are_recognised() -> None:
    rng = Random(1)
    made = [items.make(rng, 3, serial) for serial in range(200)]
    assert {type(item) for item in made} == {tuple, dict, items.Parcel, bytes, str}
    assert [items.identify(item) for item in made] == [item_id(3, serial) for serial in range(200)]


def test_damaged_items_are_recognised() -> None:
    rng = Random(2)
    for serial in range(200):
        item = items.make(rng, 3, serial)
        if isinstance(item, bytes):
            at = rng.randrange(len(item))
            assert items.identify(item[:at] + bytes([item[at] ^ 1]) + item[at + 1 :]) == TORN
            assert items.identify(item[:-1]) == TORN
        elif isinstance(item, tuple):
            assert items.identify((4, *item[1:])) == TORN
        elif isinstance(item, dict):
            assert items.identify({**item, "serial": serial + 1}) == TORN
    assert items.identify(None) == TORN
    assert items.identify(b"") == TORN


def test_a_seed_repeats_its_plans() -> None:
    for kind in KINDS:
        plans = [plan_round(1, kind, number, "mpmc") for number in range(20)]
        assert plans == [plan_round(1, kind, number, "mpmc") for number in range(20)]
        assert plans != [plan_round(2, kind, number, "mpmc") for number in range(20)]
        small = plan_round(1, kind, 0, "mpmc", capacity=3)
        assert small.capacity * small.item_size >= items.LARGEST, "no queue has room for its largest item"
        assert all(kind in wave.kinds for plan in plans for wave in plan.waves)


# ---- the kit itself -------------------------------------------------------------------------------------------------


def run(*arguments: str) -> str:
    """Run the kit, see that it found nothing wrong, and return what it printed."""
    command = [sys.executable, "-m", "stress", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=WATCHDOG, check=False)
    assert done.returncode == 0, f"exit code {done.returncode} of {command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [("--mode", "mpmc"), ("--mode", "spsc", "--producers", "1", "--consumers", "1")],
    ids=["mpmc", "spsc"],
)
def test_soak(arguments: tuple[str, ...]) -> None:
    output = run("soak", "--seconds", "3", "--engine", "atomics", *arguments)
    assert output.startswith("seed ")
    assert output.rstrip().endswith("ok")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["mpmc", "spsc"])
@pytest.mark.parametrize("kind", KINDS)
def test_kill(kind: str, mode: str) -> None:
    output = run(
        "kill", "--rounds", "3", "--engine", "atomics", "--kinds", kind, "--mode", mode, "--stall-limit", "inf"
    )
    assert output.startswith("seed ")
    assert output.rstrip().endswith("ok")


@pytest.mark.slow
@pytest.mark.parametrize("kind", chaos.KINDS)
def test_chaos(kind: str) -> None:
    output = run("chaos", "--rounds", "1", "--engine", "atomics", "--kinds", kind, "--stall-limit", "inf")
    assert output.startswith("seed ")
    assert output.rstrip().endswith("ok")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["atomics", "native"])
def test_storm(engine: str) -> None:
    if engine == "native" and not choice.has_native():
        pytest.skip("the native engine is not built here")
    output = run("storm", "--interrupts", "3000", "--engine", engine)
    assert output.startswith("seed ")
    assert output.rstrip().endswith(" 0 rounds with faults")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")  # it is never closed
def test_a_storm_finds_an_item_that_gives_way_to_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call by way of C has what the calls of the queue have not: a look of the interpreter right behind it."""
    monkeypatch.setattr(storm, "TAKES", {"by way of C": lambda queue: lambda: [partial(queue.get, timeout=0.01)()]})
    monkeypatch.setattr(storm, "SOURCES", {"another thread": storm.SOURCES["another thread"]})
    told = io.StringIO()
    assert not storm.run(storm.Plan(20_000, ("atomics",), 1), Console(file=told))
    assert " lost [" in told.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bug", "task"),
    [
        pytest.param(
            bug, task, marks=pytest.mark.long if task.how[0].startswith("leases") else ()
        )  # half a minute each
        for bug, task in planted.found_by("chaos")
    ],
    ids=str,
)
def test_chaos_finds_a_planted_bug_and_says_how_to_repeat_it(
    bug: planted.Bug, task: planted.Task, tmp_path: Path
) -> None:
    kind, rounds = task.how
    copies.copy(tmp_path, "stress", "tests", "pyproject.toml")
    assert bug.patch is not None
    apply_patch(bug.patch, tmp_path)
    engine = "native" if bug.place == "native" else "atomics"
    chosen = ("--kinds", kind, "--engine", engine)
    command = [
        sys.executable,
        "-m",
        "stress",
        "chaos",
        *chosen,
        "--rounds",
        rounds,
        "--patience",
        "2",
        "--seed",
        "1",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=WATCHDOG, check=False)
    if "skipped" in done.stdout:
        pytest.skip(done.stdout.splitlines()[-2])
    assert done.returncode == 1, done.stdout
    assert f"python -m stress chaos --seed 1 --kinds {kind} --engine {engine} --first " in done.stdout
    assert done.stdout.rstrip().endswith("FAILED")


def test_arguments_that_cannot_work_are_refused() -> None:
    command = [sys.executable, "-m", "stress", "soak", "--mode", "spsc"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=WATCHDOG, check=False)
    assert done.returncode == 2
    assert "one producer and one consumer, not 2 and 2" in " ".join(done.stderr.split())
