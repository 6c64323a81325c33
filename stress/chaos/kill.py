"""kill -9 in tight loops: acknowledged items are delivered once, and the survivors continue.

A round has a small queue, one or two survivors of each side, and waves of victims that are killed at random moments of
their loops (sometimes two at once, sometimes while they still attach). Later victims find the records of dead ones.
Afterwards the survivors have to make progress, the items put and got are judged, and the queue has to take a full load.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from statistics import quantiles
from typing import Final, Literal, get_args

import click
from rich.console import Console
from rich.table import Table

from ..harness import options
from ..harness.engines import Engines, Mode
from ..harness.items import LARGEST
from ..harness.processes import Worker
from ..harness.rounds import Result, Round, Setting, run_round, wait_exactly
from ..harness.workers import Calls
from .series import conclude, idle, run_series

Kind = Literal["producer", "consumer", "batch-producer", "batch-consumer", "mixed-producer", "mixed-consumer"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

_SCALES: Final = (100e-6, 1e-3, 5e-3, 20e-3)  # seconds; the kill comes at a random moment within one of these
_SMALL: Final = 64  # bytes of a slot, of which most items take several
_CALLS: Final[dict[str, Calls]] = {"batch": "batches", "mixed": "mixed"}  # of victims
_ATTACHING: Final = 10e-3  # seconds in which a victim attaches, or a little less


# ---- what a round is to do ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wave:
    """Victims that are killed at once.

    Attributes:
        kinds: of the victims.
        delay: seconds from the moment that all have begun to the kill.
        attaching: the delay counts from the start of their processes instead.
    """

    kinds: tuple[Kind, ...]
    delay: float
    attaching: bool


@dataclass(frozen=True)
class RoundPlan:
    """What a round is to do; the same seed gives the same plans.

    Attributes:
        seed: of the workers' choices.
        capacity: of the queue.
        producers: that survive.
        consumers: that survive.
        waves: one after the other.
        item_size: bytes of a slot; those of the kinds "mixed-" are small, and most items take several.
    """

    seed: str
    capacity: int
    producers: int
    consumers: int
    waves: tuple[Wave, ...]
    item_size: int = LARGEST


def plan_round(seed: int | str, kind: Kind, number: int, mode: Mode, capacity: int | None = None) -> RoundPlan:
    """Return what a round is to do; without a given capacity, mostly one from 1 to 5."""
    name = f"{seed}/{mode}/{kind}/{number}"
    rng = Random(name)
    # In a small queue the processes meet all the time; a long batch is more often hit in its middle.
    chosen = rng.randint(16, 64) if "batch" in kind and rng.random() < 0.25 else rng.randint(1, 5)
    item_size = LARGEST
    if "mixed" in kind:
        item_size = _SMALL
        chosen = max(chosen, 1) * LARGEST // _SMALL + rng.randint(0, 3)
    capacity = chosen if capacity is None else capacity
    item_size = max(item_size, -(-LARGEST // capacity))  # so that all slots together have room for the largest item
    if mode == "spsc":  # the victim has the role, and its standby stands by
        return RoundPlan(name, capacity, 1, 1, (_plan_wave(rng, (kind,), False),), item_size)
    producers, consumers = rng.choice(((1, 1), (1, 1), (2, 1), (1, 2)))
    waves = []
    for _ in range(rng.randint(1, 4)):
        kinds = (kind, rng.choice((kind, *KINDS[:4]))) if rng.random() < 0.25 else (kind,)
        waves.append(_plan_wave(rng, kinds, rng.random() < 0.1))
    return RoundPlan(name, capacity, producers, consumers, tuple(waves), item_size)


def _plan_wave(rng: Random, kinds: tuple[Kind, ...], attaching: bool) -> Wave:
    return Wave(kinds, rng.random() * (_ATTACHING if attaching else rng.choice(_SCALES)), attaching)


# ---- a round --------------------------------------------------------------------------------------------------------


def run_planned(plan: RoundPlan, engine: Engines | None, mode: Mode, patience: float) -> Result:
    """Run a round, and return what came out."""
    standbys = tuple(role for role in ("producer", "consumer") if mode == "spsc" and role in plan.waves[0].kinds[0])
    setting = Setting(plan.seed, plan.capacity, plan.producers, plan.consumers, mode, standbys, plan.item_size)

    def trouble(current: Round) -> None:
        for wave in plan.waves:
            _kill(current, wave)

    return run_round(setting, engine, patience, trouble)


def _kill(current: Round, wave: Wave) -> None:
    victims = [
        current.start(kind.rpartition("-")[2], "victim", _CALLS.get(kind.partition("-")[0], "singles"), tight=True)
        for kind in wave.kinds
    ]
    if not wave.attaching:
        current.wait_for_start(victims)
    wait_exactly(wave.delay)
    current.kill(victims)


# ---- all rounds -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What to do.

    Attributes:
        rounds: of each kind.
        first: number of the first round, to repeat one of an earlier run.
        kinds: of victims.
        engine: of all handles.
        mode: of the queues.
        capacity: of the queues; if None, one for each round, mostly from 1 to 5.
        seed: of all choices.
        patience: seconds without progress after which a worker is blocked.
        stall_limit: seconds that no survivor may stall for.
    """

    rounds: int
    first: int
    kinds: tuple[Kind, ...]
    engine: Engines | None
    mode: Mode
    capacity: int | None
    seed: int
    patience: float
    stall_limit: float


def run(plan: Plan, console: Console) -> bool:
    """Run all rounds, print the table, and return whether nothing went wrong."""
    with idle() as control:
        results: dict[str, Result] = {kind: _run_kind(plan, kind, control, console) for kind in plan.kinds}
    print_table(results, console)
    for kind, result in results.items():
        console.print(f"{kind}, longest stall: {result.worst[1] or 'none'}", markup=False, highlight=False)
    return conclude(results, plan.stall_limit, console)


def _run_kind(plan: Plan, kind: Kind, control: Worker, console: Console) -> Result:
    def planned(number: int) -> RoundPlan:
        return plan_round(plan.seed, kind, number, plan.mode, plan.capacity)

    def again(number: int) -> str:
        capacity = "" if plan.capacity is None else f" --capacity {plan.capacity}"
        chosen = f"--seed {plan.seed} --kinds {kind} --mode {plan.mode} --first {number} --rounds 1{capacity}"
        return f"python -m stress kill {chosen}: {planned(number)}"

    return run_series(
        kind,
        range(plan.first, plan.first + plan.rounds),
        lambda number: run_planned(planned(number), plan.engine, plan.mode, plan.patience),
        again,
        control,
        plan.stall_limit,
        console,
    )


_CAPTION = (
    "unaccounted: may be missing, because a killed consumer was in a call; adopted: got from a dead consumer after "
    "all; buried: puts of dead producers; times: median / 99 % / longest, those of rounds on a busy machine apart"
)


def print_table(results: dict[str, Result], console: Console) -> None:
    """Print a column for each kind of victim."""
    rows: list[tuple[str, Callable[[Result], str]]] = [
        ("rounds", lambda r: f"{r.rounds:,}"),
        ("victims", lambda r: f"{r.deaths:,}"),
        ("acknowledged", lambda r: f"{r.verdict.acknowledged:,}"),
        ("delivered", lambda r: f"{r.verdict.delivered:,}"),
        ("unaccounted", lambda r: f"{r.verdict.unaccounted:,}"),
        ("adopted", lambda r: f"{r.adopted:,}"),
        ("buried puts", lambda r: f"{r.buried:,}"),
        ("lost", lambda r: f"{r.verdict.lost:,}"),
        ("doubled", lambda r: f"{r.verdict.doubled:,}"),
        ("torn", lambda r: f"{r.verdict.torn:,}"),
        ("out of order", lambda r: f"{r.verdict.out_of_order:,}"),
        ("cut batches", lambda r: f"{r.verdict.cut:,}"),
        ("blocked", lambda r: f"{r.blocked:,}"),
        ("other faults", lambda r: f"{len(r.faults) - r.blocked:,}"),
        ("stall, ms", lambda r: distribution(r.stalls)),
        ("idle late, ms", lambda r: distribution(r.lateness)),
        ("stall, busy, ms", lambda r: distribution(r.busy)),
    ]
    table = Table("", *results, caption=_CAPTION)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, cell in rows:
        table.add_row(name, *(cell(result) for result in results.values()))
    console.print(table)


def distribution(seconds: list[float]) -> str:
    """Return median, 99th percentile and longest of some times, in milliseconds."""
    if len(seconds) < 2:
        return f"{seconds[0] * 1e3:.0f}" if seconds else "-"
    cuts = quantiles(seconds, n=100, method="inclusive")
    return f"{cuts[49] * 1e3:.0f} / {cuts[98] * 1e3:.0f} / {max(seconds) * 1e3:.0f}"


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=50, show_default=True, help="Of each kind.")
@options.first
@click.option("--kinds", default=",".join(KINDS), show_default=True, help="Of victims.")
@click.option("--capacity", type=click.IntRange(1), help="Of all queues; mostly 1 to 5 if not given.")
@options.stall_limit
@options.engines
@options.mode
@options.seed
@options.patience
def command(
    rounds: int,
    first: int,
    kinds: str,
    capacity: int | None,
    stall_limit: float,
    engine: Engines | None,
    mode: Mode,
    seed: int | None,
    patience: float,
) -> None:
    """Kill producers and consumers at random moments, and see that nothing is lost and no process is blocked."""
    chosen = options.parse_kinds(kinds, KINDS)
    console = Console()
    seed = options.tell_seed(seed, console)
    plan = Plan(rounds, first, chosen, engine, mode, capacity, seed, patience, stall_limit)
    with options.engine_needed():
        ok = run(plan, console)
    sys.exit(not ok)
