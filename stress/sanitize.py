"""The native algorithm under sanitizers and under an explorer of schedules, without Python in between.

``native/ring_stress.c`` and ``native/ring_explore.c`` include the header of the algorithm and nothing else of the
package. This compiles and runs them; with planted bugs, it shows that they can fail.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from rich.console import Console

Program = Literal["explore", "thread", "address"]
PROGRAMS: Final[tuple[Program, ...]] = get_args(Program)
Replacements = tuple[tuple[str, str], ...]

_ROOT: Final = Path(__file__).resolve().parents[1]
SOURCES: Final = _ROOT / "stress" / "native"
HEADERS: Final = _ROOT / "shared_multiprocess_queue" / "_native"
# What the algorithm consists of; none of these knows Python.
ALGORITHM: Final = ("layout.h", "atomic_words.h", "participants.h", "parking.h", "batch_lock.h", "recovery.h", "ring.h")
_WARNINGS: Final = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic")
_WATCHDOG: Final = 120.0  # seconds; a short program that takes longer hangs
_LONG_WATCHDOG: Final = 7200.0

_BUILDS: Final[dict[Program, tuple[str, tuple[str, ...]]]] = {
    "explore": ("ring_explore.c", ("-O2", "-Wno-clobbered")),
    "thread": ("ring_stress.c", ("-O1", "-Wno-clobbered", "-fsanitize=thread")),
    "address": (
        "ring_stress.c",
        ("-O1", "-Wno-clobbered", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    ),
}


class SanitizeError(Exception):
    """The programs cannot be built here."""


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
        seed: of the threads' choices; the explorer makes all of them and has none.
        seconds: how long each configuration of the threads runs.
        long: whether the explorer goes further and the threads longer.
        compiler: a C compiler.
    """

    seed: int
    seconds: float
    long: bool
    compiler: str


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """A bug to plant: replacements in a file of the package, each of a text that is there once."""

    name: str
    file: str
    replacements: Replacements


@dataclass(frozen=True, kw_only=True)
class Bug(Mutation):
    """One in the algorithm in C, in whichever header has the text, and who has to find it."""

    found_by: Program


def _bug(name: str, found_by: Program, *replacements: tuple[str, str]) -> Bug:
    return Bug(name=name, file="_native", replacements=replacements, found_by=found_by)


BUGS: Final = (
    _bug(
        "publish from the first slot to the last",
        "explore",
        (
            "for (uint64_t p = position + count; p-- != position;) {",
            "for (uint64_t p = position; p != position + count; p++) {",
        ),
    ),
    _bug(
        "no second read [S4] before a put is buried",
        "explore",
        ('if (SHMQ_LOAD("S4", &slot->word, memory_order_seq_cst) != free) {\n        return true;', "if (false) {"),
    ),
    _bug(
        "announce a put after its claim",
        "explore",
        ("        shmq_announce_put(me, tail, tail + count);\n", ""),
        (
            "        *position = tail;\n",
            "        shmq_announce_put(me, tail, tail + count);\n        *position = tail;\n",
        ),
    ),
    _bug(
        "announce a get after its claim",
        "explore",
        ("            shmq_announce_get(me, p, end);\n", ""),
        (
            "            *position = p;\n            *count = end",
            "            shmq_announce_get(me, p, end);\n            *position = p;\n            *count = end",
        ),
    ),
    _bug(
        "withdraw a put before it is published",
        "explore",
        (
            "    for (uint64_t p = position + count;",
            "    shmq_withdraw_put(me);\n    for (uint64_t p = position + count;",
        ),
    ),
    _bug(
        "withdraw a get before its slots are freed",
        "explore",
        (
            "            *position = p;\n            *count = end",
            "            shmq_withdraw_get(me);\n            *position = p;\n            *count = end",
        ),
    ),
    _bug(
        "adopt by a store",
        "explore",
        (
            'item->mine = SHMQ_CAS("T3", &slot->word, full, shmq_word_of(position + ring->capacity, SHMQ_FREE),\n'
            "                          memory_order_seq_cst, memory_order_relaxed);",
            'item->mine = (SHMQ_STORE("T3", &slot->word, shmq_word_of(position + ring->capacity, SHMQ_FREE),\n'
            "                             memory_order_seq_cst), true);",
        ),
    ),
    _bug(
        "take an operation for dead that lasts longer than the looks",
        "explore",
        (
            "        if (shmq_keeps_announcing(record, side, position) && shmq_is_live(ring, record)) {",
            "        if (shmq_announces(record, side, position) && !shmq_keeps_announcing(record, side, position)) {",
        ),
    ),
    _bug(
        "bury only the first slot of a batch",
        "explore",
        ("for (uint64_t j = end - 1; j > 0; j--) {", "for (uint64_t j = 0; j > 0; j--) {"),
    ),
    _bug(
        "end the search for a batch at its first FREE slot",
        "explore",
        (
            "        if (shmq_is_member(ring, position, j, &of_another)) {\n            end = j + 1;\n        }",
            "        if (!shmq_is_member(ring, position, j, &of_another)) {\n            break;\n        }\n"
            "        end = j + 1;",
        ),
    ),
    _bug(
        "bury whatever lies behind a dead put",
        "explore",
        ("const bool member = ", "const bool member = true || "),
    ),
    _bug(
        "bury the first slot of a batch first",
        "explore",
        (
            "    for (uint64_t j = end - 1; j > 0; j--) {",
            '    SHMQ_CAS("T1", &slot->word, free, shmq_word_of(position, SHMQ_TOMB), memory_order_seq_cst,\n'
            "             memory_order_relaxed);\n"
            "    for (uint64_t j = end - 1; j > 0; j--) {",
        ),
    ),
    _bug(
        "no rule for a slot of the lap before",
        "explore",
        ("        if (shmq_is_covered(ring, SHMQ_GET, p - capacity)) {", "        if (true) {"),
    ),
    _bug(
        "nobody but getters frees tombs",
        "explore",
        (
            "            if (word == shmq_word_of(p - capacity, SHMQ_TOMB)) {",
            "            if (false) {",
        ),
        (
            "        if (word == shmq_word_of(before, SHMQ_TOMB)) {\n            return SHMQ_AGAIN;",
            "        if (word == shmq_word_of(before, SHMQ_TOMB)) {\n            return SHMQ_NOTHING;",
        ),
    ),
    _bug(
        "take the record of a dead put that is not resolved",
        "explore",
        ("!shmq_resolve(ring, index)) {\n                continue;", "false) {\n                continue;"),
    ),
    _bug(
        "announce beyond the mark up to which scans go",
        "explore",
        ("attempt < SHMQ_ATTEMPTS && used <= index; attempt++", "attempt < 0; attempt++"),
    ),
    _bug(
        "take a record with the mark of its former owner",
        "explore",
        ('    SHMQ_STORE("R2", &record->abandoned, 0, memory_order_release);\n', ""),
    ),
    _bug(
        "clean an abandoned record before it is resolved",
        "explore",
        (
            "    if (!shmq_resolve(ring, me->index)) {\n        return false;\n    }",
            "    shmq_resolve(ring, me->index);",
        ),
    ),
    _bug(
        "clean an abandoned record and let it keep its name",
        "explore",
        (
            "    me->name = shmq_name_of(me->index, generation);\n",
            "",
        ),
        (
            '"R2", &record->get_end, 0, memory_order_release);\n    const uint64_t generation = '
            'SHMQ_LOAD("R2", &record->generation, memory_order_relaxed) + 1;',
            '"R2", &record->get_end, 0, memory_order_release);\n    const uint64_t generation = '
            'SHMQ_LOAD("R2", &record->generation, memory_order_relaxed);',
        ),
    ),
    _bug(
        "arm the hint before the epoch is read",
        "explore",
        ('    const uint64_t epoch = SHMQ_LOAD("W1", &side->epoch, memory_order_acquire);\n', ""),
        (
            "            break;\n        }\n    }\n    return epoch;",
            '            break;\n        }\n    }\n    return SHMQ_LOAD("W1", &side->epoch, memory_order_acquire);',
        ),
    ),
    _bug(
        "wake before the change",
        "explore",
        ("    shmq_wake(ring, &ring->header->items, count);\n", ""),
        (
            "    for (uint64_t p = position + count;",
            "    shmq_wake(ring, &ring->header->items, count);\n    for (uint64_t p = position + count;",
        ),
    ),
    _bug(
        "no chain of wakes",
        "explore",
        ("            shmq_wake(ring, &ring->header->items, 1); /* the chain", "            /* the chain"),
    ),
    _bug(
        "disarm whatever the hint is by now",
        "explore",
        (
            'SHMQ_CAS("W4", &side->hint, hint, hint & ~UINT64_C(1), memory_order_relaxed, memory_order_relaxed);',
            'SHMQ_STORE("W4", &side->hint, hint & ~UINT64_C(1), memory_order_relaxed);',
        ),
    ),
    _bug(
        "no inheritance of a lock whose holder died between its two words",
        "explore",
        ("left = atomic_load_explicit(flag, memory_order_seq_cst) != 0 &&", "left = false &&"),
    ),
    _bug(
        "has_room believes that a dead put is in the way",
        "explore",
        ("if (word == shmq_word_of(before, SHMQ_FREE) && !shmq", "if (false && !shmq"),
    ),
    _bug(
        "is_empty takes an item of a dead get for gone",
        "explore",
        (
            "        if (shmq_find_orphan(ring, &position)) {\n            return false;\n        }\n        if",
            "        if",
        ),
        ("                return shmq_is_covered(ring, SHMQ_GET, q);", "                return true;"),
    ),
    _bug(
        "is_empty sees the rest of a dead batch",
        "explore",
        ("            return index > 0 && index <= q &&", "            return false && index <= q &&"),
    ),
    _bug(
        "free a claimed slot by a store",
        "explore",
        (
            'return SHMQ_CAS("G6", &shmq_slot_of(ring, position)->word, shmq_word_of(position, SHMQ_FULL),\n'
            "                    shmq_word_of(position + ring->capacity, SHMQ_FREE), memory_order_seq_cst, "
            "memory_order_relaxed);",
            'SHMQ_STORE("G6", &shmq_slot_of(ring, position)->word,\n'
            "               shmq_word_of(position + ring->capacity, SHMQ_FREE), memory_order_seq_cst);\n"
            "    return true;",
        ),
    ),
    _bug(
        "the role of a dead producer goes to nobody",
        "explore",
        ("        if (holder != 0 && !shmq_is_dead(ring, holder)) {", "        if (holder != 0) {"),
    ),
    _bug(
        "take the role of a live producer",
        "explore",
        ("        if (holder != 0 && !shmq_is_dead(ring, holder)) {", "        if (false) {"),
    ),
    _bug(
        "publish relaxed [P8]",
        "thread",
        (
            "shmq_word_of(p, SHMQ_FULL), memory_order_seq_cst,\n                      memory_order_relaxed)",
            "shmq_word_of(p, SHMQ_FULL), memory_order_relaxed,\n                      memory_order_relaxed)",
        ),
    ),
    _bug(
        "see FULL relaxed [G2]",
        "thread",
        (
            'const uint64_t word = SHMQ_LOOK("G2", &shmq_slot_of(ring, p)->word, sure);',
            'const uint64_t word = SHMQ_LOAD("G2", &shmq_slot_of(ring, p)->word, memory_order_relaxed);',
        ),
    ),
    _bug(
        "free relaxed [G6]",
        "thread",
        (
            "shmq_word_of(position + ring->capacity, SHMQ_FREE), memory_order_seq_cst, memory_order_relaxed);\n}",
            "shmq_word_of(position + ring->capacity, SHMQ_FREE), memory_order_relaxed, memory_order_relaxed);\n}",
        ),
    ),
    _bug(
        "see FREE relaxed [P2]",
        "thread",
        (
            "            struct shmq_slot *slot = shmq_slot_of(ring, p);\n"
            "            /* [P2] acquire, pairs with [G6][T2][T3]: the last reader has made his copy. */\n"
            '            word = SHMQ_LOOK("P2", &slot->word, sure);',
            "            struct shmq_slot *slot = shmq_slot_of(ring, p);\n"
            '            word = SHMQ_LOAD("P2", &slot->word, memory_order_relaxed);',
        ),
    ),
    _bug(
        "write payloads plainly, though adopters may be copying",
        "thread",
        (
            "        atomic_store_explicit(words++, shmq_bytes(from), memory_order_relaxed);",
            "        *(uint64_t *)(void *)words++ = shmq_bytes(from);",
        ),
    ),
    _bug(
        "take the lock relaxed [L1]",
        "thread",
        (
            "*holder, me->name, memory_order_acq_rel, memory_order_relaxed);\n    }",
            "*holder, me->name, memory_order_relaxed, memory_order_relaxed);\n    }",
        ),
        (
            "if (atomic_compare_exchange_strong_explicit(flag, &(int32_t){0}, 1, memory_order_seq_cst, "
            'memory_order_relaxed)) {\n        *holder = SHMQ_LOAD("L1", owner, memory_order_acquire);',
            "if (atomic_compare_exchange_strong_explicit(flag, &(int32_t){0}, 1, memory_order_relaxed, "
            'memory_order_relaxed)) {\n        *holder = SHMQ_LOAD("L1", owner, memory_order_relaxed);',
        ),
    ),
    _bug(
        "believe the length of an item",
        "address",
        ("    if (item->length > ring->item_size) {", "    if (false) {"),
    ),
    _bug(
        "believe the index in a name",
        "address",
        ("number >= 1 && number <= SHMQ_RECORDS ?", "number >= 1 ?"),
    ),
)


def plant(bug: Mutation, source: str) -> str:
    """Return the source of its file with a bug in it."""
    return replace_each(source, bug.replacements)


def replace_each(text: str, replacements: Replacements) -> str:
    """Return a text with replacements of what is there once."""
    for old, new in replacements:
        if text.count(old) != 1:
            raise SanitizeError(f"the place to replace, {old!r}, is there {text.count(old)} times, not once")
        text = text.replace(old, new)
    return text


def write_headers(folder: Path, replacements: Replacements) -> None:
    """Write the headers of the algorithm into a folder, with replacements of what is in all of them once."""
    files = [(file, (HEADERS / file).read_text(encoding="utf-8")) for file in ALGORITHM]
    end = "\n/* the end of a file */\n"
    changed = replace_each(end.join(text for _, text in files), replacements).split(end)
    for (file, _), text in zip(files, changed, strict=True):
        (folder / file).write_text(text, encoding="utf-8")


def default_compiler() -> str:
    """Return the compiler to use: that of the environment variable CC, or cc."""
    return os.environ.get("CC") or "cc"


def _build(program: Program, compiler: str, headers: Path, folder: Path, *more: str) -> Path:
    source, flags = _BUILDS[program]
    if "clang" in compiler:
        flags = tuple(flag for flag in flags if flag != "-Wno-clobbered")
    binary = folder / program
    command = [compiler, "-std=c11", "-g", *_WARNINGS, *more, *flags, "-I", str(headers), "-pthread"]
    command += ["-o", str(binary), str(SOURCES / source)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise SanitizeError(f"there is no C compiler {compiler!r}; install one, or name one by --compiler") from None
    except subprocess.CalledProcessError as error:
        raise SanitizeError(f"{' '.join(command)}\n{error.stderr}") from None
    return binary


def _command(program: Program, binary: Path, plan: Plan) -> list[str]:
    if program == "explore":
        return [str(binary), *(["long"] if plan.long else [])]
    return [str(binary), str(plan.seed), str(plan.seconds), str(20000 if plan.long else 1000)]


def _environment() -> dict[str, str]:
    return {**os.environ, "TSAN_OPTIONS": "halt_on_error=1 exitcode=66", "ASAN_OPTIONS": "detect_leaks=1"}


def run(plan: Plan, console: Console, programs: Sequence[Program] = PROGRAMS) -> bool:
    """Build and run the programs; return whether all of them found nothing."""
    ok = True
    with tempfile.TemporaryDirectory() as folder:
        for program in programs:
            binary = _build(program, plan.compiler, HEADERS, Path(folder), "-Werror")
            console.print(f"{program}:", markup=False, highlight=False)
            began = time.monotonic()
            try:
                done = subprocess.run(
                    _command(program, binary, plan),
                    env=_environment(),
                    timeout=_LONG_WATCHDOG if plan.long else _WATCHDOG,
                    check=False,
                )
                found = done.returncode != 0
            except subprocess.TimeoutExpired:
                console.print("it hangs", markup=False, highlight=False)
                found = True
            seconds = time.monotonic() - began
            verdict = "FAILED" if found else "ok"
            console.print(f"{program}: {verdict}, {seconds:.1f} s", markup=False, highlight=False)
            ok = ok and not found
    return ok


def run_planted(plan: Plan, console: Console, bugs: Sequence[Bug] = BUGS) -> bool:
    """Plant each bug, and return whether every one was found by the program that has to find it."""
    ok = True
    for bug in bugs:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_headers(folder, bug.replacements)
            binary = _build(bug.found_by, plan.compiler, folder, folder)
            command = _command(bug.found_by, binary, plan)
            began = time.monotonic()
            try:
                done = subprocess.run(
                    command, env=_environment(), timeout=_WATCHDOG, check=False, capture_output=True, text=True
                )
                found = done.returncode != 0
                how = _first_words(done.stderr)
            except subprocess.TimeoutExpired:
                found, how = True, "it hangs"
        seconds = time.monotonic() - began
        said = f"{bug.found_by}: {how}" if found else f"NOT FOUND by {bug.found_by}"
        console.print(f"{bug.name}\n    {said}, {seconds:.1f} s", markup=False, highlight=False)
        ok = ok and found
    return ok


def _first_words(stderr: str) -> str:
    """Return the line of a program's complaint that says what it is."""
    for line in stderr.splitlines():
        if any(
            sign in line for sign in ("FAILED", "WARNING: ThreadSanitizer", "ERROR: AddressSanitizer", "runtime error")
        ):
            return line.partition(";")[0].strip()
    return stderr.strip().partition("\n")[0]
