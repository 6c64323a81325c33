"""The shared words do what they say, among threads and processes."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from multiprocessing.process import BaseProcess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared_multiprocess_queue._platform.atomic_words import Flag, WordMemory, open_words
from shared_multiprocess_queue._ring.layout import WORD
from tests.support.words import GREATEST

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


SIZE = 4096
WATCHDOG = 60.0
A_WORD = st.integers(0, GREATEST)


property_based = settings(
    max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def mapping() -> Iterator[memoryview]:
    """Memory that forked children share; closing it shows whether all views are released."""
    memory = mmap.mmap(-1, SIZE)
    view = memoryview(memory)
    yield view
    view.release()
    memory.close()


@pytest.fixture
def memory(mapping: memoryview) -> Iterator[WordMemory]:
    opened = open_words(mapping)
    yield opened
    opened.release()


def join(process: BaseProcess) -> None:
    process.join(WATCHDOG)
    try:
        assert process.exitcode == 0, f"exit code {process.exitcode}"
    finally:
        if process.is_alive():
            process.kill()
            process.join()


# ---- the package atomics --------------------------------------------------------------------------------------------


def refusal(run_id: str, damage: str) -> str:
    """Return what opening a queue says in a process whose package atomics was damaged."""
    program = f"""
        import sys
        {damage}
        from shared_multiprocess_queue import SharedMemoryQueue
        try:
            SharedMemoryQueue("q", True, run_id=sys.argv[1], engine="atomics")
        except ImportError as error:
            print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), run_id]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=WATCHDOG).stdout


def test_an_atomics_without_its_table_is_refused(run_id: str) -> None:
    said = refusal(run_id, 'import atomics; sys.modules["atomics._impl.patomic"] = None')
    assert "pip install 'atomics>=1.0.3,<1.1'" in said


def test_an_atomics_whose_table_does_something_else_is_refused(run_id: str) -> None:
    damage = """
        from shared_multiprocess_queue._platform import atomic_words as _words
        real = _words._Operations._try_out
        def swapped(self, width):
            self.cas = lambda *arguments: 1  # claims to have changed what it found otherwise
            real(self, width)
        _words._Operations._try_out = swapped
    """
    said = refusal(run_id, textwrap.indent(textwrap.dedent(damage), " " * 8).strip())
    assert "pip install 'atomics>=1.0.3,<1.1'" in said


# ---- one access -----------------------------------------------------------------------------------------------------


@property_based
@given(value=A_WORD, number=st.integers(0, SIZE // WORD - 1))
def test_load_returns_what_store_has_stored_and_the_neighbours_stay(
    memory: WordMemory, mapping: memoryview, value: int, number: int
) -> None:
    mapping[:] = b"\xa5" * SIZE
    words = memory.words()
    words.store(number * WORD, value)
    assert words.load(number * WORD) == value
    at = number * WORD
    assert mapping[at : at + WORD] == value.to_bytes(WORD, sys.byteorder)
    assert mapping[:at] == b"\xa5" * at
    assert mapping[at + WORD :] == b"\xa5" * (SIZE - at - WORD)


@property_based
@given(found=A_WORD, expected=A_WORD, desired=A_WORD)
def test_cas_changes_the_word_exactly_if_it_is_as_expected(
    memory: WordMemory, found: int, expected: int, desired: int
) -> None:
    words = memory.words()
    words.store(8, found)
    assert words.cas(8, expected, desired) is (found == expected)
    assert words.load(8) == (desired if found == expected else found)
    words.store(8, found)
    assert words.cas(8, found, desired) is True
    assert words.load(8) == desired


def test_a_failed_cas_does_not_change_what_the_caller_expects(memory: WordMemory) -> None:
    """The C function behind it writes what it found into the place of the expected value."""
    words = memory.words()
    words.store(0, 7)
    expected = int("12345678901234567")
    assert not words.cas(0, expected, 1)
    assert expected == int("12345678901234567")
    assert not words.cas(0, expected, 1), "the second time it must expect the same, not what it found the first time"
    assert words.load(0) == 7


def test_cas_never_fails_without_a_reason(memory: WordMemory) -> None:
    words = memory.words()
    for value in range(3000):
        assert words.cas(16, value, value + 1)


def test_cas_noted_is_a_cas_that_appends_its_outcome(memory: WordMemory) -> None:
    words = memory.words()
    words.store(8, 4)
    note: list[int] = []
    words.cas_noted(8, 4, 5, note)
    words.cas_noted(8, 4, 6, note)
    words.cas_noted(8, 5, GREATEST, note)
    assert [bool(outcome) for outcome in note] == [True, False, True]
    assert words.load(8) == GREATEST


def test_add_returns_the_word_from_before(memory: WordMemory) -> None:
    words = memory.words()
    words.store(8, 1 << 40)
    assert words.add(8, 3) == 1 << 40
    assert words.add(8, 1 << 33) == (1 << 40) + 3
    assert words.load(8) == (1 << 40) + 3 + (1 << 33)


@property_based
@given(value=A_WORD)
def test_the_plain_accesses_see_and_show_the_same_words(memory: WordMemory, value: int) -> None:
    words = memory.words()
    words.announce(24, value)
    assert words.load(24) == value
    words.store(32, value)
    assert words.peek(32) == value
    words.announce_range(40, value, value ^ 1)
    assert [words.load(at) for at in (32, 40, 48, 56)] == [value, value, value ^ 1, 0]
    words.add(64, 1)
    assert words.load_after_rmw(32) == value


def test_two_accesses_have_scratch_memory_of_their_own(memory: WordMemory) -> None:
    one, other = memory.words(), memory.words()
    one.store(0, 1)
    other.store(8, 2)
    assert not one.cas(0, 77, 78)
    assert other.load(8) == 2
    assert one.add(0, 1) == 1
    assert other.cas(8, 2, 3)
    assert (one.load(0), one.load(8)) == (2, 3)


# ---- several at once ------------------------------------------------------------------------------------------------


def count_by_cas(memory: WordMemory, times: int) -> None:
    words = memory.words()
    for _ in range(times):
        while not words.cas(64, value := words.load(64), value + 1):
            pass


def count_by_add(memory: WordMemory, times: int) -> None:
    words = memory.words()
    for _ in range(times):
        words.add(72, 1)


def count_by_noted_cas(memory: WordMemory, times: int) -> None:
    words = memory.words()
    note: list[int] = []
    while sum(map(bool, note)) < times:
        value = words.load(80)
        words.cas_noted(80, value, value + 1, note)


def count_in_every_way(memory: WordMemory, times: int) -> None:
    count_by_cas(memory, times)
    count_by_add(memory, times)
    count_by_noted_cas(memory, times // 10)


def test_threads_that_count_miss_nothing(memory: WordMemory) -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=count_in_every_way, args=(memory, 1500)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WATCHDOG)
            assert not thread.is_alive()
    finally:
        sys.setswitchinterval(before)
    words = memory.words()
    assert [words.load(64), words.load(72), words.load(80)] == [3000, 3000, 300]


def test_processes_that_count_miss_nothing(memory: WordMemory) -> None:
    """Two cores at once."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=count_in_every_way, args=(memory, 4000)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        join(process)
    words = memory.words()
    assert [words.load(64), words.load(72), words.load(80)] == [8000, 8000, 800]


# ---- the int32 of the lock ------------------------------------------------------------------------------------------


def test_the_flag_is_one_int32_that_is_0_or_1(mapping: memoryview) -> None:
    mapping[:8] = bytes(4) + b"\xff" * 4
    flag = Flag(mapping)
    assert not flag.is_set()
    assert flag.set()
    assert mapping[:8] == (1).to_bytes(4, sys.byteorder) + b"\xff" * 4
    assert flag.is_set()
    assert not flag.set(), "it is 1 already"
    flag.clear()
    assert mapping[:8] == bytes(4) + b"\xff" * 4
    flag.release()


def hold_and_count(mapping: memoryview, times: int) -> None:
    """Add to a number by a plain, losable addition, under the flag."""
    flag = Flag(mapping)
    number = mapping[64:72].cast("Q")
    for _ in range(times):
        while not flag.set():
            os.sched_yield()
        number[0] += 1
        flag.clear()


def test_the_flag_lets_one_process_in_at_a_time(mapping: memoryview) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=hold_and_count, args=(mapping, 2000)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        join(process)
    assert int.from_bytes(mapping[64:72], sys.byteorder) == 4000
