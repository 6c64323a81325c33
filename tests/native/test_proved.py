"""What is proved ships, and what ships is proved: the functions of the ring in C that each side calls."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stress.harness.copies import HEADERS
from stress.native.sanitize import SOURCES

# What the algorithm consists of; none of these knows Python.
ALGORITHM = (
    *("layout.h", "atomic_words.h", "participants.h", "parking.h", "batch_lock.h", "slots.h", "writing.h", "large.h"),
    *("recovery.h", "dead_letters.h", "ending.h", "leases.h", "returns.h", "ring.h", "large_ring.h", "leased_ring.h"),
    "looking.h",
)

CALL = re.compile(r"\b(shmq_\w+)\(")
DEFINITION = re.compile(
    r"^(?:__attribute__\(\(.*?\)\) )?static (?:inline )?[^;{=]*?\b(shmq_\w+)\([^;]*?\)\n\{\n(.*?)^\}",
    re.MULTILINE | re.DOTALL,
)
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


# Functions that the product calls and no program does, each with the reason.
UNPROVED = {
    "shmq_gate": "fairness, not safety: one relaxed load; the model gate.pml has what the gate is for",
    "shmq_is_shut": "arithmetic on a word and a time, which touches no memory; the model gate.pml has its meaning",
}


def code_of(path: Path) -> str:
    return COMMENT.sub("", path.read_text(encoding="utf-8"))


DEFINED = {name: body for file in ALGORITHM for name, body in DEFINITION.findall(code_of(HEADERS / file))}
CALLS = {name: set(CALL.findall(body)) & set(DEFINED) for name, body in DEFINED.items()}


def called_in(*paths: Path) -> set[str]:
    return {name for path in paths for name in CALL.findall(code_of(path))} & set(DEFINED)


def reached_from(names: set[str]) -> set[str]:
    """Return these functions and all that they call, directly or not."""
    found: set[str] = set()
    waiting = set(names)
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= CALLS[name] - found
    return found


PRODUCT = called_in(*(path for path in sorted(HEADERS.glob("*.[ch]")) if path.name not in ALGORITHM))
PROGRAMS = [path.name for path in sorted(SOURCES.glob("*.[ch]")) if called_in(path)]
PROVED = called_in(*(SOURCES / program for program in PROGRAMS))


def test_the_functions_are_seen() -> None:
    assert len(DEFINED) > 50
    assert len(PROGRAMS) >= 4
    assert {"shmq_take_role", "shmq_leave_role", "shmq_claim_put", "shmq_publish"} <= PRODUCT & PROVED
    assert "shmq_rescue_put" in reached_from({"shmq_claim_get"}) - {"shmq_claim_get"}


def test_what_the_product_calls_is_called_by_explorer_checker_or_stress() -> None:
    assert PRODUCT - reached_from(PROVED) == set(UNPROVED)


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_a_program_calls_ships(program: str) -> None:
    """A proof of a function that the product does not run proves nothing of the product."""
    called = called_in(SOURCES / program)
    assert called
    assert called <= reached_from(PRODUCT)


def test_every_function_of_the_ring_ships() -> None:
    assert set(DEFINED) == reached_from(PRODUCT)
