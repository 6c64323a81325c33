"""The results as tables: every peer, the limits, and the goals of the design."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table

from .peers import ALL
from .run import Results
from .scenarios import GROWTH, MAIN, POLLING

_WIDTH = 130
_NATIVE = ("native", "native spsc")
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
    """Yield the goals of which there are figures; ours is the better of native and native spsc, if neither is named."""
    for scenario, bound in (
        ("64 B", 2.5),
        ("dict", 2.0),
        ("dict, 2 x 2", 1.5),
        ("dict, batches of 100", 3.0),
        ("4 KiB", 1.1),
    ):
        yield from _beside_peers(
            results, scenario, bound, [name for name in _peers(results, scenario) if _answers(name)]
        )
    for scenario, bound, peer in (
        ("dict", 0.7, "quick-queue"),
        ("dict, batches of 100", 1.0, "quick-queue"),
        ("array of 1 MiB", 20.0, "multiprocessing.Queue"),
        ("frame of 6 MB", 20.0, "multiprocessing.Queue"),
    ):
        yield from _beside_peers(results, scenario, bound, [name for name in _peers(results, scenario) if name == peer])
    for scenario in ("dict", "dict of ten fields"):
        figures, pickle = results.figures.get(f"{scenario}, alone", {}).get("native"), f"pickle of {scenario}"
        if figures and pickle in results.limits:
            limit = results.limits[pickle]
            ratios = _ratios(_sums(figures["put"], figures["get"]), _sums(limit["dumps"], limit["loads"]))
            yield Goal(f"{scenario}: put + get, pickle", ratios, 0.45, False, pickle)
    for scenario in ("array of 1 MiB, alone", "frame of 6 MB, alone"):
        figures = results.figures.get(scenario, {}).get("native")
        if figures:
            ratios = _ratios(_sums(figures["put"], figures["get"]), figures["two copies"])
            yield Goal(f"{scenario}: put + get, two copies", ratios, 1.4, False, "two copies")
    for scenario, limit_name, bound in (("round trip, spinning", "ping-pong", 2.0), ("wake-up", "futex", 1.2)):
        ours = [f["p50"] for name, f in results.figures.get(scenario, {}).items() if name in _NATIVE]
        if ours and limit_name in results.limits:
            best = min(ours, key=median)
            ratios = _ratios(best, results.limits[limit_name]["p50"])
            yield Goal(f"{scenario}: p50, limit", ratios, bound, False, limit_name)
    for polling in POLLING:
        for name, f in results.figures.get(polling.name, {}).items():
            if name in _NATIVE:
                yield Goal(f"{polling.name}, {name}: p90, p50", _ratios(f["p90"], f["p50"]), 3.0, False, "")
    for name, f in results.figures.get("1 MB in place", {}).items():
        if name == "native":
            yield Goal("1 MB in place: put and get, one copy", _ratios(f["in place"], f["copy"]), 1.3, False, "memcpy")
    waiting = results.figures.get("CPU of 2 s of waiting", {}).get("native")
    if waiting:
        yield Goal("CPU of a getter blocked for 2 s, ms", waiting["cpu"], 0.3, False, "")
    for scenario in ("64 B", "dict"):
        figures_of = results.figures.get(scenario, {})
        if "atomics" in figures_of and "version 0.1.5" in figures_of:
            ratios = _ratios(figures_of["atomics"]["rate"], figures_of["version 0.1.5"]["rate"])
            yield Goal(f"{scenario}: items/s, atomics engine", ratios, 3.0, True, "version 0.1.5")
    if "native" in results.imports:
        yield Goal("import, ms more than shared_memory", results.imports["native"], 20.0, False, "")


def _beside_peers(results: Results, scenario: str, bound: float, peers: Sequence[str]) -> Iterator[Goal]:
    """Yield the goal of a rate beside the fastest of some peers, if there are figures of both."""
    figures = {name: found["rate"] for name, found in results.figures.get(scenario, {}).items()}
    ours = [figures[name] for name in _NATIVE if name in figures]
    if peers and ours:
        fastest = max(peers, key=lambda name: median(figures[name]))
        ratios = _ratios(max(ours, key=median), figures[fastest])
        yield Goal(f"{scenario}: items/s, fastest peer", ratios, bound, True, fastest)


def _peers(results: Results, scenario: str) -> list[str]:
    return [name for name in results.figures.get(scenario, {}) if name not in _OURS]


def _answers(name: str) -> bool:
    """Whether a peer sends each item when it is put."""
    return next((peer.answers for peer in ALL if peer.name == name), True)


def _sums(some: Sequence[float], others: Sequence[float]) -> list[float]:
    return [one + other for one, other in zip(some, others, strict=False)]


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(ours, theirs, strict=False)]  # one may have failed in a later repeat


# ---- tables ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figures:
    """A table, whatever it is shown on; the first column names the rows."""

    title: str
    head: list[str]
    rows: list[list[str]]


def tables(results: Results) -> Iterator[Figures]:
    """Yield everything as tables."""
    yield Figures("The run", ["", ""], [[key, value] for key, value in results.machine.items()])
    notes = {peer.name: peer.note for peer in ALL}
    waits = {peer.name: peer.waiting for peer in ALL}
    yield Figures(
        "What was measured",
        ["", "version", "its get", ""],
        [[name, version, waits[name], notes[name]] for name, version in results.peers.items()],
    )
    yield Figures(
        "Goals of the design",
        ["goal", "compared with", "bound", "measured", ""],
        [
            [
                goal.what,
                goal.against,
                f"{'at least' if goal.at_least else 'at most'} {goal.bound:g}",
                spread(goal.ratios),
                "met" if goal.met else "missed",
            ]
            for goal in goals(results)
        ],
    )
    for scenario in MAIN:
        if scenario.name in results.units:
            yield _of_scenario(results, scenario.name)
    grown = [scenario.name for scenario in GROWTH if scenario.name in results.figures]
    if grown:
        head = [f"{peer}, {part}" for peer in ("native", "atomics") for part in ("put", "get")]
        yield Figures(
            "Put and get of one process as things grow, ns",
            ["", *head],
            [
                [name, *(_cell(results, name, peer, part) for peer in ("native", "atomics") for part in ("put", "get"))]
                for name in grown
            ],
        )
    yield Figures(
        "Limits of the machine (pickle in ns, other times in µs)",
        ["", "median (range)"],
        [[f"{name}, {part}", spread(v)] for name, figures in results.limits.items() for part, v in figures.items()],
    )
    yield Figures(
        "Import, ms more than multiprocessing.shared_memory",
        ["", "median (range)"],
        [[name, spread(values)] for name, values in results.imports.items()],
    )


def _cell(results: Results, scenario: str, peer: str, part: str) -> str:
    values = results.figures[scenario].get(peer, {}).get(part)
    return spread(values) if values else ""


def _of_scenario(results: Results, scenario: str) -> Figures:
    figures = results.figures.get(scenario, {})
    names = list(next(iter(figures.values()), {}))
    rows = [[peer, *(spread(figures[peer][name]) for name in names)] for peer in ranked(results, scenario)]
    rows += [
        [peer, failure[:80], *[""] * (len(names) - 1)] for peer, failure in results.failures.get(scenario, {}).items()
    ]
    title = f"{scenario}, {results.units[scenario]}: median (range)"
    if scenario in results.beside:
        title += f"; a line of cache to and fro: {spread(results.beside[scenario])} µs"
    return Figures(title, ["", *names], rows)


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

    def first(name: str) -> float:
        return median(next(iter(figures[name].values())))

    return sorted(figures, key=first, reverse=results.units[scenario] == "items/s")


def print_all(results: Results, console: Console) -> None:
    """Print everything."""
    console.width = max(console.width, _WIDTH)  # a file has no width, and a figure is not to be cut in two
    for figures in tables(results):
        table = Table(*figures.head, title=figures.title, title_justify="left")
        for column in table.columns[1:]:
            column.justify = "right"
        for row in figures.rows:
            table.add_row(*row)
        console.print(table)
