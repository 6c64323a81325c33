"""Rounds one after the other, beside an idle process, and the verdict over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from rich.console import Console

from ..harness import workers
from ..harness.logs import Log, Signals
from ..harness.processes import Processes, Worker, children
from ..harness.rounds import Result, tell

_ENOUGH: Final = 5  # bad rounds of a series, after which no more are done


@contextmanager
def idle() -> Iterator[Worker]:
    """Yield the idle process; its delay in waking shows how busy the machine is."""
    signals = Signals()
    signals.mark()
    log = Log(0, signals)
    with Processes() as processes:
        yield processes.start("idle", log, workers.idle, log, signals)


def run_series(
    name: str,
    numbers: range,
    run_round: Callable[[int], Result],
    again: Callable[[int], str],
    control: Worker,
    stall_limit: float,
    console: Console,
) -> Result:
    """Run rounds, print what is wrong with each, and return what came out of all.

    Args:
        name: for messages.
        numbers: of the rounds.
        run_round: runs one.
        again: says how to repeat one.
        control: the process that does nothing.
        stall_limit: seconds that no survivor may stall for.
        console: where to print.
    """
    total = Result()
    bad = 0
    for number in numbers:
        control.log.forget_stalls()
        result = run_round(number)
        report = tell(result, number, control.log.longest_stall(), stall_limit)
        if not result.ok or max(result.stalls, default=0) > stall_limit:
            for line in (again(number), *result.verdict.findings, *result.faults, report):
                console.print(line, style="red", markup=False, soft_wrap=True)
            bad += 1
        total.add(result)
        if bad == _ENOUGH:
            console.print(f"{name}: given up after {bad} bad rounds", style="red", markup=False)
            break
    return total


def conclude(results: Mapping[str, Result], stall_limit: float, console: Console) -> bool:
    """Print what is wrong besides, and the verdict; return whether nothing went wrong."""
    faults = [f"process {pid} was left" for pid in children()]
    faults += [
        f"{name}: a survivor stalled for longer than {stall_limit} s"
        for name, result in results.items()
        if max(result.stalls, default=0) > stall_limit
    ]
    for line in faults:
        console.print(line, style="red", markup=False)
    ok = not faults and all(result.ok for result in results.values())
    console.print("ok" if ok else "FAILED", style="green" if ok else "bold red")
    return ok
