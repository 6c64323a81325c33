"""The search itself, in a process whose package is the copy to explore; its exit status says what it found."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Final

from . import coverage, drawing
from .corpus import Engines, programs
from .program import parse_program, parse_schedule
from .search import Bounds, Finding, enumerate_schedules, try_schedule

FOUND: Final = 7
"""Exit status that means a broken rule."""

LEVELS: Final[dict[str, Sequence[tuple[int, int]]]] = {
    "short": ((1, 0), (0, 1)),
    "middle": ((2, 0), (1, 1)),
    "long": ((2, 1), (1, 2), (3, 0)),
}
"""By form: switches and deaths of each pass over all programs."""


def _say(text: str) -> None:
    print(text, flush=True)


def _enumerate(engines: Engines, level: str, most: int) -> tuple[int, Finding | None]:
    total = 0
    for switches, deaths in LEVELS[level]:
        began, tried, complete, several = time.perf_counter(), 0, 0, 0
        for program in programs(engines):
            count, finding, is_complete = enumerate_schedules(program, Bounds(switches, deaths, most))
            tried += count
            several += 1
            complete += is_complete
            if finding is not None:
                return total + tried, finding
        seconds = time.perf_counter() - began
        _say(
            f"{engines}, up to {switches} switches and {deaths} deaths: {tried:,} schedules of {several} programs, "
            f"{complete} of them completely, {tried / seconds:,.0f} a second"
        )
        total += tried
    return total, None


def main() -> int:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("engines", choices=["atomics", "native", "mixed"])
    parser.add_argument("--level", choices=list(LEVELS), default="short")
    parser.add_argument("--most", type=int, default=1_000_000)
    parser.add_argument("--draws", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replay", default="")
    chosen = parser.parse_args()
    if chosen.replay:
        program, _, schedule = chosen.replay.partition("/")
        finding = try_schedule(parse_program(program), parse_schedule(schedule))
        total = 1
    else:
        total, finding = _enumerate(chosen.engines, chosen.level, chosen.most)
        if finding is None and chosen.draws:
            began = time.perf_counter()
            drawn, finding = drawing.draw(chosen.engines, chosen.draws, chosen.seed)
            total += drawn
            rate = drawn / (time.perf_counter() - began)
            _say(
                f"{chosen.engines}, drawn by hypothesis (seed {chosen.seed}): {drawn:,} schedules, {rate:,.0f} a second"
            )
    if finding is not None:
        _say(f"BROKEN after {total:,} schedules: {finding}")
        return FOUND
    _say(f"{total:,} schedules, every one as it should be")
    coverage.report(_say)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
