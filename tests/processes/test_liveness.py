"""Which process lives: the answers in C beside those in Python, and how often they are asked for at all."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shared_multiprocess_queue._platform import processes
from shared_multiprocess_queue._platform.system import System
from shared_multiprocess_queue._ring.layout import (
    NAMESPACES_AT,
    OWNER,
    PUT_BEGIN,
    PUT_END,
    RECORDS_USED_AT,
    owner_of,
    record_at,
)
from shared_multiprocess_queue._ring.participants import Participants
from stress.harness import copies
from stress.native import sanitize
from tests.support.waiting import eventually

COMPILER = copies.default_compiler()
FOLDERS = (copies.HEADERS, sanitize.SOURCES)


pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which(COMPILER) is None, reason="needs a C compiler, and /proc"
)


ASKER = """
#include <inttypes.h>
#include "processes.h"
int main(void)
{
    uint64_t pid, start;
    while (scanf("%" SCNu64 "%" SCNu64, &pid, &start) == 2) {
        puts(shmq_process_is_alive(pid, start) ? "alive" : "dead");
        fflush(stdout);
    }
}
"""


SUBJECT = """
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
static void *stay(void *nothing)
{
    pause();
    return nothing;
}
int main(int count, char **arguments)
{
    pthread_t thread;
    if (count > 2) {
        prctl(PR_SET_NAME, arguments[2]);
    }
    puts("ready");
    fflush(stdout);
    if (strcmp(arguments[1], "leaves its thread") == 0 && pthread_create(&thread, NULL, stay, NULL) == 0) {
        pthread_exit(NULL);
    }
    if (strcmp(arguments[1], "stays") == 0) {
        pause();
    }
    return 0;
}
"""


COUNTER = """
#include <string.h>
static void step(const char *label);
#define SHMQ_STEP(label) step(label)
#include "segment.h"

static struct shmq_record *announcer;
static uint64_t then_begin, then_end;
static long looks, last_look;

/* Each look reads begin and end. */
static void step(const char *label)
{
    if (announcer != NULL && strcmp(label, "S2") == 0 && looks++ == 2 * last_look) {
        atomic_store(&announcer->put_begin, then_begin);
        atomic_store(&announcer->put_end, then_end);
    }
}

static int asked;

static bool count_and_answer(void *is_alive, uint64_t owner)
{
    (void)owner;
    asked++;
    return *(bool *)is_alive;
}

static int no_wake(void *context, _Atomic uint64_t *word, int count)
{
    (void)context, (void)word, (void)count;
    return 0;
}

/* LOOK BEGIN END ALIVE: after so many looks the announcement becomes that one. Says who is covered, and how often it
   was asked. */
int main(int count, char **arguments)
{
    (void)count;
    bool is_alive = atoi(arguments[4]) != 0;
    const struct shmq_calls calls = {count_and_answer, no_wake, NULL, &is_alive, NULL, NULL};
    struct shmq_ring ring;
    shmq_open(&ring, segment_new(4, 8, false), 4, 8, false, 1, calls);
    struct shmq_record *record = &ring.records[0];
    atomic_store(&ring.header->records_used, 1);
    atomic_store(&record->owner, 2);
    atomic_store(&record->put_begin, 5);
    atomic_store(&record->put_end, 7);
    last_look = atol(arguments[1]);
    then_begin = (uint64_t)atoi(arguments[2]);
    then_end = (uint64_t)atoi(arguments[3]);
    shmq_records_used(&ring); /* has the label, too */
    announcer = record;
    looks = -1; /* that of the next scan */
    const bool covered = shmq_is_covered(&ring, SHMQ_PUT, 6);
    printf("%d %d\\n", covered, asked);
    return 0;
}
"""


def build(folder: Path, name: str, source: str, *more: str) -> Path:
    (folder / f"{name}.c").write_text(source)
    includes = [argument for folder_ in FOLDERS for argument in ("-I", folder_)]
    command = [COMPILER, "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-pthread", *more, *includes]
    subprocess.run([*command, "-o", folder / name, folder / f"{name}.c"], check=True)
    return folder / name


# ---- the answers ----------------------------------------------------------------------------------------------------


class Asker:
    """A process that answers in C."""

    def __init__(self, program: Path) -> None:
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def is_alive(self, pid: int, start: int) -> bool:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{pid} {start}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer in ("alive\n", "dead\n"), answer
        return answer == "alive\n"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("liveness")
    return {name: build(folder, name, source) for name, source in (("asker", ASKER), ("subject", SUBJECT))}


@pytest.fixture
def asker(programs: dict[str, Path]) -> Iterator[Asker]:
    found = Asker(programs["asker"])
    yield found
    found.process.communicate()


@contextmanager
def subject(program: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start a process that does something; yields when it has begun."""
    with subprocess.Popen([program, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def state(pid: int) -> str:
    """Return the state and the number of threads of a process."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return f"{fields[0].decode()}{fields[17].decode()}"


def start_of(pid: int) -> int:
    start = processes._start_time(pid)
    assert start
    return start


def both(asker: Asker, pid: int, start: int) -> bool:
    answers = {"in C": asker.is_alive(pid, start), "in Python": processes.is_alive(pid, start)}
    assert len(set(answers.values())) == 1, answers
    return answers["in C"]


def test_a_process_lives_until_it_is_dead(programs: dict[str, Path], asker: Asker) -> None:
    with subject(programs["subject"], "stays") as process:
        start = start_of(process.pid)
        assert both(asker, process.pid, start)
        assert both(asker, process.pid, 0), "without a start time the pid counts"
        process.kill()
        eventually(lambda: state(process.pid) == "Z1")
        assert not both(asker, process.pid, start), "a zombie"
        assert not both(asker, process.pid, 0), "a zombie"
        process.wait()
        assert not both(asker, process.pid, start), "nobody waits for it any more"
        assert not both(asker, process.pid, 0), "nobody waits for it any more"


def test_who_has_the_pid_of_another_is_not_that_one(programs: dict[str, Path], asker: Asker) -> None:
    with subject(programs["subject"], "stays") as process:
        start = start_of(process.pid)
        assert not both(asker, process.pid, start - 1)
        assert not both(asker, process.pid, start + 1)
    assert both(asker, 1, start_of(1))
    assert both(asker, 1, 0)
    assert not both(asker, 1, start_of(1) + 1)


def test_a_stopped_process_lives(programs: dict[str, Path], asker: Asker) -> None:
    with subject(programs["subject"], "stays") as process:
        os.kill(process.pid, signal.SIGSTOP)
        eventually(lambda: state(process.pid) == "T1")
        assert both(asker, process.pid, start_of(process.pid))


def test_a_zombie_whose_other_threads_go_on_lives(programs: dict[str, Path], asker: Asker) -> None:
    with subject(programs["subject"], "leaves its thread") as process:
        eventually(lambda: state(process.pid) == "Z2")
        assert both(asker, process.pid, start_of(process.pid))
        assert both(asker, process.pid, 0)


@pytest.mark.parametrize("name", ["two words", "a) Z 1 1 1 1 1", ") ) ) ) ) ) )", "(((", ")))", "a\nb) Z\n", " "])
def test_the_name_of_a_process_says_nothing(name: str, programs: dict[str, Path], asker: Asker) -> None:
    with subject(programs["subject"], "stays", name) as process:
        assert Path(f"/proc/{process.pid}/comm").read_text() == f"{name}\n"
        start = start_of(process.pid)
        assert both(asker, process.pid, start)
        assert not both(asker, process.pid, start + 1)
        process.kill()
        eventually(lambda: state(process.pid) == "Z1")
        assert not both(asker, process.pid, start)


def test_without_a_free_descriptor_only_who_is_gone_is_dead(programs: dict[str, Path], asker: Asker) -> None:
    """A zombie counts as alive then: it looks like a process that lives, and a wrong "dead" breaks the ring."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with subject(programs["subject"], "stays") as living, subject(programs["subject"], "stays") as gone:
        starts = {process.pid: start_of(process.pid) for process in (living, gone)}
        resource.prlimit(asker.process.pid, resource.RLIMIT_NOFILE, (0, hard))
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            assert both(asker, living.pid, starts[living.pid])
            assert both(asker, living.pid, starts[living.pid] + 1), "the start time cannot be read"
            gone.kill()
            os.waitid(os.P_PID, gone.pid, os.WEXITED | os.WNOWAIT)
            assert both(asker, gone.pid, starts[gone.pid]), "a zombie"
            gone.wait()
            assert not both(asker, gone.pid, starts[gone.pid])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ---- how often it is asked ------------------------------------------------------------------------------------------


NEXT = {"it is withdrawn": (5, 0), "it is that of a later put": (7, 9), "it is that of an earlier put": (4, 6)}
"""What an announcement of positions 5 and 6 becomes, which covers 6 no more."""


class Memory:
    """Words in a dict, of which one record's announcement becomes another at a look."""

    def __init__(self, last_look: int, then: tuple[int, int]) -> None:
        self.words: dict[int, int] = {}
        self.at = record_at(0)
        self.looks, self.last_look, self.then = 0, last_look, then

    def load(self, at: int) -> int:
        if at == self.at + PUT_BEGIN:
            self.looks += 1
            if self.looks > self.last_look:
                self.words[self.at + PUT_BEGIN], self.words[self.at + PUT_END] = self.then
        return self.words.get(at, 0)

    def store(self, at: int, word: int) -> None:
        self.words[at] = word

    def cas(self, at: int, expected: int, desired: int) -> bool:
        is_so = self.words.get(at, 0) == expected
        if is_so:
            self.words[at] = desired
        return is_so


def covered_in_python(
    monkeypatch: pytest.MonkeyPatch, last_look: int, then: tuple[int, int], is_alive: bool
) -> tuple[bool, int]:
    """Return whether position 6 is covered, and how often it was asked whether its owner lives."""
    asked = []

    def answer(pid: int, start: int) -> bool:
        asked.append((pid, start))
        return is_alive

    monkeypatch.setattr(processes, "is_alive", answer)
    words: Any = Memory(last_look, then)
    me = processes.identity()
    participants = Participants(words)
    words.store(RECORDS_USED_AT, 1)
    words.store(words.at + OWNER, owner_of(me.pid + 1, 7, 1))
    words.store(words.at + PUT_BEGIN, 5)
    words.store(words.at + PUT_END, 7)
    assert words.load(NAMESPACES_AT) == me.namespace
    covered = participants.covered(words, 6, PUT_BEGIN, PUT_END)
    assert set(asked) <= {(me.pid + 1, 7)}
    return covered, len(asked)


@pytest.mark.parametrize("is_alive", [True, False])
def test_python_asks_once_about_an_announcement_that_stays(monkeypatch: pytest.MonkeyPatch, is_alive: bool) -> None:
    assert covered_in_python(monkeypatch, System.looks, (5, 0), is_alive) == (is_alive, 1)


@pytest.mark.parametrize("then", NEXT)
def test_python_does_not_ask_about_an_announcement_that_goes(monkeypatch: pytest.MonkeyPatch, then: str) -> None:
    for last_look in range(System.looks):
        assert covered_in_python(monkeypatch, last_look, NEXT[then], True) == (False, 0), last_look


def test_python_looks_more_than_once() -> None:
    assert System.looks > 1


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("looks"), "counter", COUNTER, "-DSHMQ_LOOKS=4", "-Wno-unused-function")


def covered_in_c(counter: Path, last_look: int, then: tuple[int, int], is_alive: bool) -> tuple[bool, int]:
    command = [str(counter), *map(str, (last_look, *then, int(is_alive)))]
    covered, asked = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return covered == "1", int(asked)


@pytest.mark.parametrize("is_alive", [True, False])
def test_c_asks_once_about_an_announcement_that_stays(counter: Path, is_alive: bool) -> None:
    assert covered_in_c(counter, 4, (5, 0), is_alive) == (is_alive, 1)


@pytest.mark.parametrize("then", NEXT)
def test_c_does_not_ask_about_an_announcement_that_goes(counter: Path, then: str) -> None:
    for last_look in range(4):
        assert covered_in_c(counter, last_look, NEXT[then], True) == (False, 0), last_look
