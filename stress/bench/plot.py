"""The results as pictures, for the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from .report import number, ranked
from .run import Results
from .scenarios import CAPACITIES, GROWTH, HANDLES, SIZES

_OURS: Final = "#2a6f97"
_OTHERS: Final = "#b8c4cc"
_LIMIT: Final = "#c1121f"
_COLUMNS: Final = 3
_OUR_NAMES: Final = ("native", "native spsc", "atomics")


def draw_all(results: Results, folder: Path) -> list[Path]:
    """Draw what there are figures of, and return the files."""
    import matplotlib as mpl  # noqa: PLC0415 (only for this; the benchmark itself does without)

    mpl.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for file, title, unit in (("throughput", "Items a second", "items/s"), ("latency", "Latency, median in µs", "µs")):
        there = [name for name in results.figures if results.units[name] == unit]
        if there:
            rows = -(-len(there) // _COLUMNS)
            figure, axes = pyplot.subplots(rows, _COLUMNS, figsize=(13, 4 * rows), squeeze=False)
            for axis in axes.flat[len(there) :]:
                axis.axis("off")
            for axis, scenario in zip(axes.flat, there, strict=False):
                _bars(axis, results, scenario)
            drawn.append(_save(figure, results, title, folder / f"{file}.png"))
    if any(results.figures.get(scenario.name) for scenario in GROWTH):
        figure, axes = pyplot.subplots(1, 3, figsize=(13, 4))
        for axis, what, values, name in (
            (axes[0], "capacity", CAPACITIES, "capacity {:,}"),
            (axes[1], "bytes of an item", SIZES, "item of {:,} B"),
            (axes[2], "further handles that were used", HANDLES, "{:,} more handles"),
        ):
            _lines(axis, results, what, values, name)
        drawn.append(_save(figure, results, "Put and get in one process, ns", folder / "growth.png"))
    return drawn


def _bars(axis: Any, results: Results, scenario: str) -> None:
    names = ranked(results, scenario)[::-1]
    values = [next(iter(results.figures[scenario][name].values())) for name in names]
    middles = [median(some) for some in values]
    errors = [
        [middle - min(some) for middle, some in zip(middles, values, strict=True)],
        [max(some) - middle for middle, some in zip(middles, values, strict=True)],
    ]
    colours = [_OURS if name in _OUR_NAMES else _OTHERS for name in names]
    axis.barh(names, middles, xerr=errors, color=colours, ecolor="#444444", error_kw={"lw": 0.8})
    axis.set_xscale("log")
    axis.margins(x=0.25)
    for place, value in enumerate(middles):
        axis.annotate(number(value), (value, place), textcoords="offset points", xytext=(4, 0), va="center", fontsize=6)
    limit = {"round trip, spinning": "ping-pong", "wake-up": "futex"}.get(scenario)
    if limit in results.limits:
        axis.axvline(median(results.limits[limit]["p50"]), color=_LIMIT, lw=1, label=f"{limit} in C")
        axis.legend(fontsize=7)
    axis.set_title(f"{scenario} ({results.units[scenario]})", fontsize=9)
    axis.tick_params(labelsize=7)


def _lines(axis: Any, results: Results, what: str, values: Sequence[int], name: str) -> None:
    for peer, style in (("native", "-"), ("atomics", "--")):
        for part, colour in (("put", _OURS), ("get", _LIMIT)):
            points = [
                (value, median(found[part]))
                for value in values
                if (found := results.figures.get(name.format(value), {}).get(peer))
            ]
            if points:
                axis.plot(*zip(*points, strict=True), style, marker="o", ms=3, color=colour, label=f"{peer}, {part}")
    axis.set_xscale("symlog" if min(values) == 0 else "log")
    axis.set_yscale("log")
    axis.set_xlabel(what, fontsize=8)
    axis.tick_params(labelsize=7)
    if axis.lines:
        axis.legend(fontsize=7)


def _save(figure: Any, results: Results, title: str, path: Path) -> Path:
    figure.suptitle(title, fontsize=11)
    origin = ", ".join(results.machine[key] for key in ("processor", "system", "date", "commit"))
    figure.text(0.01, 0.005, f"Python {results.machine['python']}, {origin}", fontsize=6)
    figure.tight_layout(rect=(0, 0.02, 1, 1))
    figure.savefig(path, dpi=110)
    return path
