"""All kinds of trouble in turn, a table of the results, and an exit status that says whether all is well."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from ..harness import options
from ..harness.engines import ENGINES, Engines
from ..harness.processes import Worker
from ..harness.rounds import Result
from . import birth, family, full, interrupt, leases, letters, shutdown, steps, storms, troubles
from .series import conclude, idle, run_series
from .skip import Skip

RunRound = Callable[[str, Engines, float], Result]

# The function of each kind, and its rounds per 100 of a long run: some take much longer, or find less with time.
_ROUNDS: Final[dict[str, tuple[RunRound, int]]] = {
    "kills": (troubles.run_kills, 100),
    "stop": (troubles.run_stop, 25),
    "interrupt": (interrupt.run, 25),
    "birth": (birth.run, 100),
    "lock": (troubles.run_lock, 100),
    "fork": (family.run, 50),
    "full": (full.run, 10),
    "churn": (troubles.run_churn, 50),
    "shutdown": (shutdown.run, 100),
    "leases": (leases.run_processing, 50),
    "leases-ending": (leases.run_ending, 50),
    "leases-heirs": (leases.run_heirs, 50),
    "leases-interrupt": (leases.run_interrupted, 25),
    "letters": (letters.run, 50),
    "leases-joins": (storms.run_joins, 50),
    "leases-shutdown": (storms.run_shutdown, 100),
}
# Likewise, of those that run in the process with the dying build.
_STEPS: Final[dict[str, tuple[Callable[[steps.Host], RunRound], int]]] = {
    "steps": (lambda host: host.run, 10),
    "leases-steps": (lambda host: host.run_leased, 10),
}

KINDS: Final = (*_ROUNDS, *_STEPS)


@dataclass(frozen=True)
class Plan:
    """What to do.

    Attributes:
        rounds: of the kind that has most; other kinds have a share of them.
        first: number of the first round, to repeat one of an earlier run.
        kinds: of trouble.
        engines: each of "atomics", "native" and "mixed" is a run of its own.
        seed: of all choices.
        patience: seconds without progress after which a worker is blocked.
        stall_limit: seconds that no survivor may stall for.
    """

    rounds: int
    first: int
    kinds: tuple[str, ...]
    engines: tuple[Engines, ...]
    seed: int
    patience: float
    stall_limit: float


def run(plan: Plan, console: Console) -> bool:
    """Run all rounds, print the table, and return whether nothing went wrong."""
    results: dict[tuple[str, Engines], Result] = {}
    skipped: list[str] = []
    with idle() as control, steps.Host() as host:
        rounds = {**_ROUNDS, **{kind: (run_of(host), share) for kind, (run_of, share) in _STEPS.items()}}
        for kind in plan.kinds:
            for engine in plan.engines:
                run_round, share = rounds[kind]
                try:
                    results[kind, engine] = _run_row(plan, kind, engine, run_round, share, control, console)
                except Skip as skip:
                    skipped.append(f"{kind}, {engine}: skipped, {skip}")
    print_table(results, console)
    for (kind, engine), result in results.items():
        if result.moments:
            moments = ", ".join(f"{count:,} {moment}" for moment, count in sorted(result.moments.items()))
            console.print(f"{kind}, {engine}: killed {moments}", markup=False, highlight=False)
    for line in skipped:
        console.print(line, style="yellow", markup=False)
    return conclude({", ".join(row): result for row, result in results.items()}, plan.stall_limit, console)


def _run_row(
    plan: Plan, kind: str, engine: Engines, run_round: RunRound, share: int, control: Worker, console: Console
) -> Result:
    again = f"python -m stress chaos --seed {plan.seed} --kinds {kind} --engine {engine}"
    return run_series(
        f"{kind}, {engine}",
        range(plan.first, plan.first + max(1, plan.rounds * share // 100)),
        lambda number: run_round(f"{plan.seed}/{kind}/{engine}/{number}", engine, plan.patience),
        lambda number: f"{again} --first {number} --rounds 1",
        control,
        plan.stall_limit,
        console,
    )


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
    "held up: pauses in which survivors waited for a claim of a paused worker; stall: the longest of a survivor; with "
    "leases, from a death to the next delivery of an item, or from the last end to the return of a join; busy: stalls "
    "put aside, because even an idle process woke late"
)


def print_table(results: dict[tuple[str, Engines], Result], console: Console) -> None:
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


@click.command()
@click.option("--rounds", type=click.IntRange(1), help="Of the kinds that have most; 100, or 8 with --short.")
@options.first
@click.option("--kinds", default=",".join(KINDS), show_default=True, help="Of trouble.")
@click.option("--engine", type=options.ANY_ENGINES, help="Only this; all in turn if not given.")
@click.option("--short", is_flag=True, help="Three minutes.")
@options.stall_limit
@options.seed
@options.patience
def command(
    rounds: int | None,
    first: int,
    kinds: str,
    engine: Engines | None,
    short: bool,
    stall_limit: float,
    seed: int | None,
    patience: float,
) -> None:
    """Bring all kinds of trouble over processes, and see that nothing is lost and no process is blocked."""
    chosen = options.parse_kinds(kinds, KINDS)
    console = Console()
    seed = options.tell_seed(seed, console)
    engines = ENGINES if engine is None else (engine,)
    plan = Plan(rounds or (8 if short else 100), first, chosen, engines, seed, patience, stall_limit)
    with options.engine_needed():
        ok = run(plan, console)
    sys.exit(not ok)
