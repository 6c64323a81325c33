"""The results as tables: every peer, the limits, and the goals of the design."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table

from .run import Results
from .scenarios import GROWTH, MAIN

_WIDTH = 130
_OURS = ("native", "native spsc", "atomics", "version 0.1.5")


# ---- goals ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Goal:
    """One goal of the design, and how far it is met.

    Attributes:
        what: is compared, with what.
        ratios: one for each repeat.
        bound: the goal.
        at_least: whether the ratio has to be at least the bound; otherwise at most.
        against: the peer that it was compared with.
    """

    what: str
    ratios: Sequence[float]
    bound: float
    at_least: bool
    against: str

    @property
    def met(self) -> bool:
        """Whether the median meets the goal."""
        return median(self.ratios) >= self.bound if self.at_least else median(self.ratios) <= self.bound


def goals(results: Results) -> Iterator[Goal]:
    """Yield the goals of which there are figures; ours is the better of native and native spsc."""
    for scenario, bound in (
        ("64 B", 2.5),
        ("dict", 2.0),
        ("dict, 2 x 2", 1.5),
        ("4 KiB", 1.5),
    ):
        figures = results.figures.get(scenario, {})
        peers = {name: f["rate"] for name, f in figures.items() if name not in _OURS}
        ours = [figures[name]["rate"] for name in ("native", "native spsc") if name in figures]
        if peers and ours:
            fastest = max(peers, key=lambda name: median(peers[name]))
            best = max(ours, key=median)
            yield Goal(f"{scenario}: items/s, fastest peer", _ratios(best, peers[fastest]), bound, True, fastest)
    for scenario, limit, bound in (("round trip, spinning", "ping-pong", 2.0), ("wake-up", "futex", 1.2)):
        ours = [f["p50"] for name, f in results.figures.get(scenario, {}).items() if name in ("native", "native spsc")]
        if ours and limit in results.limits:
            best = min(ours, key=median)
            yield Goal(f"{scenario}: p50, limit", _ratios(best, results.limits[limit]["p50"]), bound, False, limit)
    waiting = results.figures.get("CPU of 2 s of waiting", {}).get("native")
    if waiting:
        yield Goal("CPU of a getter blocked for 2 s, ms", waiting["cpu"], 1.0, False, "")
    for scenario in ("64 B", "dict"):
        figures = results.figures.get(scenario, {})
        if "atomics" in figures and "version 0.1.5" in figures:
            ratios = _ratios(figures["atomics"]["rate"], figures["version 0.1.5"]["rate"])
            yield Goal(f"{scenario}: items/s, atomics engine", ratios, 3.0, True, "version 0.1.5")
    if "native" in results.imports:
        yield Goal("import, ms more than shared_memory", results.imports["native"], 20.0, False, "")


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(ours, theirs, strict=True)]


# ---- tables ---------------------------------------------------------------------------------------------------------


def print_all(results: Results, console: Console) -> None:
    """Print everything."""
    console.width = max(console.width, _WIDTH)  # a file has no width, and a figure is not to be cut in two
    for line in _heading(results):
        console.print(line, markup=False, highlight=False)
    for title, names in (("", [s.name for s in MAIN]), ("as it grows", [s.name for s in GROWTH])):
        for name in names:
            if name in results.units:
                console.print(_scenario_table(results, name, title))
    console.print(_simple_table("limits of the machine (times in µs, pickle in ns)", _limits(results)))
    console.print(_simple_table("import, ms beyond multiprocessing.shared_memory", results.imports))
    console.print(_goal_table(results))


def _heading(results: Results) -> Iterator[str]:
    yield ", ".join(f"{key}: {value}" for key, value in results.machine.items())
    yield "peers: " + ", ".join(f"{name} {version}".rstrip() for name, version in results.peers.items())


def _limits(results: Results) -> dict[str, list[float]]:
    return {f"{name}, {part}": values for name, figures in results.limits.items() for part, values in figures.items()}


def number(value: float) -> str:
    """Return a figure with as many digits as say something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(values: Sequence[float]) -> str:
    """Return median and range."""
    if len(values) == 1:
        return number(values[0])
    return f"{number(median(values))} ({number(min(values))} to {number(max(values))})"


def ranked(results: Results, scenario: str) -> list[str]:
    """Return the peers of a scenario, the best first."""
    figures = results.figures.get(scenario, {})
    first: Callable[[str], float] = lambda name: median(next(iter(figures[name].values())))  # noqa: E731
    return sorted(figures, key=first, reverse=results.units[scenario] == "items/s")


def _scenario_table(results: Results, scenario: str, title: str) -> Table:
    figures = results.figures.get(scenario, {})
    names = list(next(iter(figures.values()), {}))
    table = Table("", *names, title=f"{scenario} {title}, {results.units[scenario]}: median (range)".replace(" ,", ","))
    for column in table.columns[1:]:
        column.justify = "right"
    for peer in ranked(results, scenario):
        table.add_row(peer, *(spread(figures[peer][name]) for name in names))
    for peer, failure in results.failures.get(scenario, {}).items():
        table.add_row(peer, failure[:80])
    return table


def _simple_table(title: str, rows: dict[str, list[float]]) -> Table:
    table = Table("", "median (range)", title=title)
    table.columns[1].justify = "right"
    for name, values in rows.items():
        table.add_row(name, spread(values))
    return table


def _goal_table(results: Results) -> Table:
    table = Table("goal", "compared with", "bound", "measured", "", title="goals of the design")
    for goal in goals(results):
        bound = f"{'at least' if goal.at_least else 'at most'} {goal.bound:g}"
        table.add_row(goal.what, goal.against, bound, spread(goal.ratios), "met" if goal.met else "missed")
    return table
