"""The fast lane, ``pytest -m "not slow"``: every promise once, and no product of engines and other parameters.

Of a test with several parameters the fast lane has a star: one engine, one mode, one way to start a process, and each
value of the other parameters beside the first of all others. Of a test with the marker ``costly`` it has the first
variant alone. What is slow for another reason has the marker ``slow`` itself. Of random examples the fast lane draws a
quarter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from shared_multiprocess_queue._engine import choice

ENGINES = {"engine", "engines", "each_engine", "leasing_engine", "pair", "reading_engine", "writing_engine"}
ONE_IS_ENOUGH = {"mode", "start_method", "method", "next_method", "echoed"}


def is_of_the_lanes_engine(item: pytest.Function) -> bool:
    has_choice = choice.has_native() and item.get_closest_marker("atomics_only") is None
    engine = "native" if has_choice else "atomics"
    values = item.callspec.params
    return all(values[name] in (engine, (engine, engine)) for name in ENGINES & set(values))


def parameters(item: pytest.Function) -> Iterator[tuple[str, ...]]:
    """Yield the names that one parametrization gives their values together."""
    left = dict.fromkeys(item.callspec.params)
    for mark in item.iter_markers("parametrize"):
        names = mark.args[0].replace(",", " ").split() if isinstance(mark.args[0], str) else mark.args[0]
        yield tuple(names)
        for name in names:
            del left[name]
    for name in left:  # of fixtures
        yield (name,)


def is_of_the_star(item: pytest.Function, first: pytest.Function) -> bool:
    """Whether a variant is the first, or differs from it by one parameter only, of which one value is not enough."""
    if item.get_closest_marker("costly"):
        return item is first

    def value(of: pytest.Function, name: str) -> Any:
        return of.callspec.params[name]

    differing = [
        names for names in parameters(item) if any(value(item, name) is not value(first, name) for name in names)
    ]
    return len(differing) <= 1 and not any(ONE_IS_ENOUGH & set(names) for names in differing)


def mark_slow(items: list[pytest.Item]) -> None:
    """Mark the variants of tests that the fast lane leaves out."""
    first: dict[object, pytest.Function] = {}
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.slow)
        if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
            continue
        if item.get_closest_marker("slow"):
            continue
        if not is_of_the_lanes_engine(item) or not is_of_the_star(item, first.setdefault(item.function, item)):
            item.add_marker(pytest.mark.slow)


def draw_few(config: pytest.Config) -> None:
    """Let tests draw few random examples if the fast lane alone is run. This comes before test modules are imported."""
    if config.option.markexpr == "not slow":
        from hypothesis import settings  # slow to import, and not every run needs it

        settings.register_profile("few", max_examples=25)
        settings.load_profile("few")


def examples(number: int) -> int:
    """Return how many random examples a test draws whose number is not the usual one.

    Args:
        number: of examples of all tests, where 100 is usual.
    """
    from hypothesis import settings

    return number * settings().max_examples // 100
