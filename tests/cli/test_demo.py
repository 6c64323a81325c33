"""``shmq demo``: it counts right, and leaves nothing behind however it ends."""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from shared_multiprocess_queue.cli import demo_counting
from tests.support.demo import MANY, run, running, wait_until

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc and /dev/shm")


def nothing() -> None:
    pass


def row(output: str, heading: str) -> str:
    """Return what the summary says in a row."""
    found = re.search(rf"[│|] {re.escape(heading)} +[│|] (.*?) +[│|]", output)
    assert found, output
    return found[1]


# ---- counting -------------------------------------------------------------------------------------------------------


def test_it_counts_a_tree_and_both_ways_are_equal(tree: Path) -> None:
    code, output, errors = run("demo", tree, "--workers", 2, "--check")
    assert (code, errors) == (0, "")  # and no progress bar, because this is no terminal
    assert "Equal: 2 files" in output
    assert row(output, "files") == "2"
    assert row(output, "not tokenised") == "0"
    assert row(output, "different names") == "4"
    assert row(output, "top names") == "one 2, print 1, range 1, two 1"


@pytest.mark.slow
def test_one_file_is_enough(tree: Path) -> None:
    code, output, _ = run("demo", tree / "one.py", "--workers", 4)
    assert code == 0
    assert "1 file, 1 worker." in output


def test_names_are_counted_and_keywords_are_not(tree: Path) -> None:
    count = demo_counting.count_file(str(tree / "one.py"), nothing)
    assert count.names == {"one": 2, "range": 1, "print": 1}
    assert count.error is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"# coding: no-such-encoding\n", id="unknown encoding"),
        pytest.param(b"# coding: rot13\n", id="no text encoding"),
        pytest.param(b"name = '\xff'\n", id="wrong encoding"),
        pytest.param(b"name = (\n", id="unexpected end"),
        pytest.param(b"if x:\n        y\n    z\n", id="dedent to nowhere"),
    ],
)
def test_a_file_that_cannot_be_tokenised_is_counted_as_such_and_named(tree: Path, content: bytes) -> None:
    (tree / "broken.py").write_bytes(content)
    code, output, _ = run("demo", tree, "--workers", 1, "--check")
    assert code == 0
    assert row(output, "files") == "3"
    assert row(output, "not tokenised") == "1"
    assert re.search(r"^Not tokenised:\n  .*broken\.py: \w+Error: ", output, re.M)
    assert "Equal: 3 files" in output


@pytest.mark.slow
def test_file_names_need_not_be_text(tree: Path) -> None:
    (tree / os.fsdecode(b"caf\xe9 [red].py")).write_bytes(b"(")
    code, output, _ = run("demo", tree, "--check")
    assert code == 0
    assert r"caf\udce9 [red].py: " in output


@pytest.mark.slow
def test_a_result_too_large_for_a_slot_is_counted_by_the_main_process(tree: Path) -> None:
    letters = random.Random(7)  # or it would be deflated, and fit
    (tree / "names.py").write_text("\n".join(f"_{letters.randbytes(20).hex()}" for _ in range(10_000)))
    code, output, _ = run("demo", tree, "--check")
    assert code == 0
    assert re.search(r"[│|] main +[│|] +[│|] +1 [│|]", output)
    assert "Equal: 3 files" in output


@pytest.mark.slow
def test_more_files_than_places_in_the_queues_and_many_workers(many_files: Path) -> None:
    code, output, _ = run("demo", many_files, "--workers", 8, "--check")
    assert code == 0
    assert f"Equal: {MANY} files" in output


# Loses a token on the way.
WRONG = """
from shared_multiprocess_queue.cli import app as cli
from shared_multiprocess_queue.cli import demo_counting

count_alone = demo_counting.count_alone

def wrong(files, check, progress):
    totals = count_alone(files, check, progress)
    totals.tokens += 1
    return totals

demo_counting.count_alone = wrong
cli.main()
"""


@pytest.mark.slow
def test_check_fails_if_the_counts_differ(tree: Path) -> None:
    code, output, errors = run("-c", WRONG, "demo", tree, "--check", command=[sys.executable])
    assert code == 1
    assert "Equal" not in output
    assert re.match(r"Error: the counts differ .*:\n  tokens: (\d+) and \d+\n", errors)


def test_what_is_a_source_file(tree: Path) -> None:
    os.mkfifo(tree / "pipe.py")
    (tree / "folder.py").mkdir()
    (tree / "gone.py").symlink_to("nowhere")
    assert demo_counting.python_files(tree) == [str(tree / "inner" / "two.py"), str(tree / "one.py")]


def test_differences_are_named() -> None:
    one, other = demo_counting.Totals(), demo_counting.Totals()
    one.add("a", demo_counting.FileCount(3, {"x": 2, "same": 1}))
    other.add("a", demo_counting.FileCount(4, {"x": 1, "y": 1, "same": 1}))
    other.add("b", demo_counting.FileCount(0, {}, "SyntaxError: no"))
    assert one.differences(other) == [
        "files: 1 and 2",
        "tokens: 3 and 4",
        "name 'x': 2 and 1",
        "name 'y': 0 and 1",
        "not tokenised by one only: 'b'",
    ]
    assert one.differences(one) == []


# ---- signals --------------------------------------------------------------------------------------------------------


@pytest.mark.costly
@pytest.mark.parametrize("to_group", [True, False], ids=["group", "main"])
@pytest.mark.parametrize(
    ("signals", "name", "code"),
    [
        pytest.param([signal.SIGINT], "SIGINT", 130, id="SIGINT"),
        pytest.param([signal.SIGINT] * 3, "SIGINT", 130, id="SIGINT thrice"),
        pytest.param([signal.SIGTERM], "SIGTERM", 143, id="SIGTERM"),
        pytest.param([signal.SIGHUP], "SIGHUP", 129, id="SIGHUP"),
    ],
)
@pytest.mark.parametrize("moment", ["start", "middle"])
def test_a_signal_ends_it_cleanly(moment: str, signals: list[int], name: str, code: int, to_group: bool) -> None:
    with running("demo", "--workers", 2) as demo_run:
        assert demo_run.process.stdout
        assert demo_run.process.stdout.readline().startswith("Counting tokens in ")
        if moment == "middle":
            demo_run.wait_for_workers(2)
            time.sleep(0.5)  # they are at work, most probably; it must hold anyhow
        for number in signals:
            (os.killpg if to_group else os.kill)(demo_run.pid, number)
        found, _, errors = demo_run.end()
    assert found == code
    assert errors == f"Stopped by {name}: the workers have ended, the queues are removed.\n"


# Counting alone takes as good as for ever.
SLOW_ALONE = """
from shared_multiprocess_queue.cli import app as cli
from shared_multiprocess_queue.cli import demo_counting

count_alone = demo_counting.count_alone

def slowly(files, check, progress):
    print("counting alone", flush=True)
    return count_alone(files * 100_000, check, progress)

demo_counting.count_alone = slowly
cli.main()
"""


@pytest.mark.slow
def test_ctrl_c_while_counting_alone_ends_it_cleanly(tree: Path) -> None:
    with running("-c", SLOW_ALONE, "demo", tree, "--check", command=[sys.executable]) as demo_run:
        assert demo_run.process.stdout
        while demo_run.process.stdout.readline() != "counting alone\n":
            assert demo_run.process.poll() is None
        os.killpg(demo_run.pid, signal.SIGINT)
        code, _, errors = demo_run.end()
    assert code == 130
    assert errors.startswith("Stopped by SIGINT: ")


# ---- death ----------------------------------------------------------------------------------------------------------


def kills(output: str) -> list[tuple[int, str]]:
    """Return which worker was killed, and which file it had, in order."""
    found = re.findall(
        r"^Worker (\d+) \(process \d+\): killed by SIGKILL when [\d,]+ files? were counted; it had (.+)$", output, re.M
    )
    return [(int(worker), path) for worker, path in found]


@pytest.mark.slow
def test_workers_that_are_killed_lose_nothing_and_count_nothing_twice(many_files: Path) -> None:
    code, output, _ = run("demo", many_files, "--workers", 2, "--kills", 4, "--check")
    assert code == 0
    assert f"Equal: {MANY} files" in output
    assert 1 <= len(kills(output)) <= 4  # fewer if all files are counted before that
    assert all(Path(path).parent == many_files for _, path in kills(output))
    assert row(output, "workers killed") == str(len(kills(output)))
    # One fewer, if a worker is killed when it has taken over a file and has not counted that yet.
    assert len(kills(output)) - 1 <= int(row(output, "files that came back")) <= len(kills(output))


@pytest.mark.slow
def test_no_worker_is_killed_if_that_is_not_wanted(tree: Path) -> None:
    code, output, _ = run("demo", tree, "--kills", 0)
    assert (code, kills(output)) == (0, [])
    assert row(output, "workers killed") == row(output, "files that came back") == "0"


# Each worker kills itself at its first file.
SUICIDAL = """
import os, signal, sys
from shared_multiprocess_queue.cli import app as cli
from shared_multiprocess_queue.cli import demo as demo

def count_file(path, check):
    os.kill(os.getpid(), signal.SIGKILL)

demo.count_file = count_file
if __name__ == "__main__":
    cli.main()
"""


@pytest.mark.slow
def test_it_says_so_if_workers_die_again_and_again(many_files: Path, tmp_path: Path) -> None:
    program = tmp_path / "suicidal"
    program.write_text(SUICIDAL)
    code, _, errors = run(program, "demo", many_files, "--workers", 2, command=[sys.executable])
    assert code == 1
    assert re.match(rf"Error: workers died again and again \(killed by SIGKILL\) when 0 of {MANY} files ", errors)


# One worker that is killed after each of its results, before it ends the lease: every file comes twice.
KILLED_AFTER_THE_RESULT = """
import os, signal, sys
from shared_multiprocess_queue import Lease
from shared_multiprocess_queue.cli import demo as demo

done = Lease.done

def killed_at_first(lease):
    if lease.deliveries == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    done(lease)

Lease.done = killed_at_first

if __name__ == "__main__":
    folder = sys.argv[1]
    files = [os.path.join(folder, name) for name in ("a.py", "b.py", "c.py")]
    for path in files:
        with open(path, "w") as file:
            file.write("name = 1\\n")
    result = demo.count_with_workers(files, 1, 0, lambda: None, lambda progress: None)
    assert result.totals.names == {"name": 3}, result
    assert result.totals.files == 3, result
    assert result.workers[0].died == result.redelivered == result.repeated == 3, result
    print("all is well")
"""


@pytest.mark.slow
def test_a_result_that_comes_twice_counts_once(tmp_path: Path) -> None:
    program = tmp_path / "killed"
    program.write_text(KILLED_AFTER_THE_RESULT)
    code, output, _ = run(program, tmp_path, command=[sys.executable])
    assert (code, output) == (0, "all is well\n")


@pytest.mark.slow
def test_workers_do_not_outlive_the_main_process_and_remove_the_queues() -> None:
    with running("demo", "--workers", 2) as demo_run:
        demo_run.wait_for_workers(2)
        wait_until(
            lambda: all(has_opened_both_queues(pid) for pid in demo_run.workers()),
            "workers that have opened the queues",
        )
        os.kill(demo_run.pid, signal.SIGKILL)
        code, _, _ = demo_run.end()
    assert code == -signal.SIGKILL


def has_opened_both_queues(pid: int) -> bool:
    mapped = Path(f"/proc/{pid}/maps").read_text()
    return "-tasks-queue-lock" in mapped and "-results-queue-lock" in mapped  # a lock is attached to last
