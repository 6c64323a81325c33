"""The search itself, in a process whose package is the copy to explore; its exit status says what it found."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Final

from ..harness.engines import Engines
from . import coverage, drawing
from .corpus import expand, programs
from .program import FOUND, Program, parse_program, parse_schedule
from .search import Bounds, Finding, draw_schedules, enumerate_schedules, try_schedule

_PASSES: Final = ((1, 0), (0, 1), (2, 0), (1, 1), (3, 0), (2, 1))
"""Switches and deaths of one pass over all programs after the other. One contains those with smaller numbers."""


def _say(text: str) -> None:
    print(text, flush=True)


def _enumerate(engines: Engines, chosen: Sequence[Program], most: int, seed: int) -> tuple[int, Finding | None]:
    """Pass over programs, each time with a third of the schedules that are left, and end with random ones."""
    total = 0
    for switches, deaths in _PASSES:
        began, tried, complete = time.perf_counter(), 0, 0
        share = (most - total) // 3
        for i, program in enumerate(chosen):
            bounds = Bounds(switches, deaths, max(1, (share - tried) // (len(chosen) - i)), seed)
            count, finding, is_complete = enumerate_schedules(program, bounds)
            tried += count
            complete += is_complete
            if finding is not None:
                return total + tried, finding
        total += tried
        rate = tried / (time.perf_counter() - began)
        _say(
            f"{engines}, up to {switches} switches and {deaths} deaths: {tried:,} schedules of {len(chosen)} programs, "
            f"{complete} of them completely, {rate:,.0f} a second"
        )
    began, tried = time.perf_counter(), 0
    for i, program in enumerate(chosen):
        count, finding = draw_schedules(program, max(0, most - total - tried) // (len(chosen) - i), seed)
        tried += count
        if finding is not None:
            return total + tried, finding
    rate = tried / (time.perf_counter() - began)
    _say(f"{engines}, at random steps up to 4 switches and 2 deaths: {tried:,} schedules, {rate:,.0f} a second")
    return total + tried, None


def main() -> int:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("engines", choices=["atomics", "native", "mixed"])
    parser.add_argument("--schedules", type=int, default=0)
    parser.add_argument("--program", default="")
    parser.add_argument("--draws", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replay", default="")
    chosen = parser.parse_args()
    chosen_programs = list(expand(chosen.program) if chosen.program else programs(chosen.engines))
    if chosen.replay:
        program, _, schedule = chosen.replay.partition("/")
        finding = try_schedule(parse_program(program), parse_schedule(schedule))
        total = 1
    else:
        total, finding = _enumerate(chosen.engines, chosen_programs, chosen.schedules, chosen.seed)
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
