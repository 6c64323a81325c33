"""All kinds of trouble in turn, a table of what came out, and an exit status that says it all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.table import Table

from .. import workers
from ..crew import Crew, Worker, children
from ..logs import Log, Signals
from ..rounds import Result, tell
from . import birth, family, full, interrupt, steps, troubles
from .skip import Skip

RunRound = Callable[[str, str, float], Result]

ENGINES: Final = ("atomics", "native", workers.MIXED)

# What a round does, and of 100 of a long run how many are of a kind: some take much longer, or find less with time.
_ROUNDS: Final[dict[str, tuple[RunRound, int]]] = {
    "kills": (troubles.run_kills, 100),
    "stop": (troubles.run_stop, 25),
    "interrupt": (interrupt.run, 25),
    "birth": (birth.run, 100),
    "lock": (troubles.run_lock, 100),
    "fork": (family.run, 50),
    "full": (full.run, 10),
    "churn": (troubles.run_churn, 50),
}
_STEPS: Final = "steps", 10

KINDS: Final = (*_ROUNDS, _STEPS[0])

_ENOUGH: Final = 5  # bad rounds of a row, after which no more are done


@dataclass(frozen=True)
class Plan:
    """What to do.

    Attributes:
        rounds: of the kind that has most; the others have a share of that.
        first: number of the first round, to repeat one of an earlier run.
        kinds: of trouble.
        engines: each of "atomics", "native" and "mixed" is a run of its own.
        seed: of all choices.
        patience: seconds after which somebody who does not get on is blocked.
        stall_limit: seconds that no survivor may stall for.
    """

    rounds: int
    first: int
    kinds: tuple[str, ...]
    engines: tuple[str, ...]
    seed: int
    patience: float
    stall_limit: float


def run(plan: Plan, console: Console) -> bool:
    """Run all rounds, print the table, and return whether nothing went wrong."""
    results: dict[tuple[str, str], Result] = {}
    skipped: list[str] = []
    with _idle() as control, steps.Host() as host:
        rounds = {**_ROUNDS, _STEPS[0]: (host.run, _STEPS[1])}
        for kind in plan.kinds:
            for engine in plan.engines:
                run_round, share = rounds[kind]
                try:
                    results[kind, engine] = _run_row(plan, kind, engine, run_round, share, control, console)
                except Skip as skip:
                    skipped.append(f"{kind}, {engine}: skipped, {skip}")
    print_table(results, console)
    faults = [f"process {pid} was left" for pid in children()]
    slow = [
        f"{kind}, {engine}: a survivor stalled for longer than {plan.stall_limit} s"
        for (kind, engine), result in results.items()
        if max(result.stalls, default=0) > plan.stall_limit
    ]
    for line in skipped:
        console.print(line, style="yellow", markup=False)
    for line in faults + slow:
        console.print(line, style="red", markup=False)
    ok = not faults and not slow and all(result.ok for result in results.values())
    console.print("ok" if ok else "FAILED", style="green" if ok else "bold red")
    return ok


@contextmanager
def _idle() -> Iterator[Worker]:
    """Give the process that does nothing, and whose lateness shows how busy the machine is."""
    signals = Signals()
    signals.mark()
    log = Log(0, signals)
    with Crew() as crew:
        yield crew.start("idle", log, workers.idle, log, signals)


def _run_row(
    plan: Plan, kind: str, engine: str, run_round: RunRound, share: int, control: Worker, console: Console
) -> Result:
    total = Result()
    bad = 0
    for number in range(plan.first, plan.first + max(1, plan.rounds * share // 100)):
        control.log.forget_stalls()
        result = run_round(f"{plan.seed}/{kind}/{engine}/{number}", engine, plan.patience)
        report = tell(result, number, control.log.longest_stall(), plan.stall_limit)
        if not result.ok or max(result.stalls, default=0) > plan.stall_limit:
            again = f"--seed {plan.seed} --kinds {kind} --engine {engine} --first {number} --rounds 1"
            for line in (f"python -m stress chaos {again}", *result.verdict.findings, *result.faults, report):
                console.print(line, style="red", markup=False, soft_wrap=True)
            bad += 1
        total.add(result)
        if bad == _ENOUGH:
            console.print(f"{kind}, {engine}: given up after {bad} bad rounds", style="red", markup=False)
            break
    return total


_COLUMNS: Final[dict[str, Callable[[Result], str]]] = {
    "rounds": lambda r: f"{r.rounds:,}",
    "kills": lambda r: f"{r.deaths:,}",
    "others": lambda r: f"{r.events:,}",
    "acknowledged": lambda r: f"{r.verdict.acknowledged:,}",
    "delivered": lambda r: f"{r.verdict.delivered:,}",
    "unaccounted": lambda r: f"{r.verdict.unaccounted:,}",
    "lost": lambda r: f"{r.verdict.lost:,}",
    "doubled": lambda r: f"{r.verdict.doubled:,}",
    "torn": lambda r: f"{r.verdict.torn:,}",
    "out of order": lambda r: f"{r.verdict.out_of_order:,}",
    "cut": lambda r: f"{r.verdict.cut:,}",
    "blocked": lambda r: f"{r.blocked:,}",
    "faults": lambda r: f"{len(r.faults) - r.blocked:,}",
    "held up": lambda r: f"{r.held_up:,}",
    "stall, ms": lambda r: f"{max(r.stalls) * 1e3:.0f}" if r.stalls else "-",
    "busy": lambda r: f"{len(r.busy):,}",
}
_CAPTION: Final = (
    "others: pauses, interrupts, visits, forks; unaccounted: may be missing, because a consumer was killed in a call; "
    "held up: pauses in which survivors waited for a claim of who was paused; stall: the longest of a survivor; busy: "
    "stalls put aside, because even an idle process woke late"
)


def print_table(results: dict[tuple[str, str], Result], console: Console) -> None:
    """Print a row for each kind of trouble and engine, and a sum."""
    table = Table("kind", "engine", *_COLUMNS, caption=_CAPTION)
    for column in table.columns[2:]:
        column.justify = "right"
    total = Result()
    for (kind, engine), result in results.items():
        table.add_row(kind, engine, *(cell(result) for cell in _COLUMNS.values()))
        total.add(result)
    table.add_section()
    table.add_row("all", "", *(cell(total) for cell in _COLUMNS.values()))
    wide = Console(file=console.file, width=max(console.width, 200))
    wide.print(table)
