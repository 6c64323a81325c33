"""The resource tracker of multiprocessing learns of no queue."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.children import python
from tests.support.places import SHM
from tests.support.segments import attach, works
from tests.support.waiting import LONG

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


def test_no_process_tells_the_resource_tracker(run_id: str) -> None:
    result = python(
        """
        import sys
        from multiprocessing import resource_tracker
        from shared_multiprocess_queue import SharedMemoryQueue

        q = SharedMemoryQueue("q", create=True, capacity=3, run_id=sys.argv[1])
        other = SharedMemoryQueue("q", run_id=sys.argv[1])
        q.put_batch([1, 2])
        assert other.get_batch(2) == [1, 2]
        other.close()
        print("tracker:", resource_tracker._resource_tracker._fd)
        """,
        run_id,
    )
    assert result.stdout == "tracker: None\n"
    with attach(run_id) as q:
        assert works(q)
        q.unlink()


def test_a_tracker_that_runs_takes_no_queue_away_when_processes_end(run_id: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import multiprocessing, os, signal, sys
            from multiprocessing import shared_memory
            from shared_multiprocess_queue import SharedMemoryQueue

            def child(how):
                q = SharedMemoryQueue("q", run_id=sys.argv[1])
                q.put_batch([how])
                if how == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)

            if __name__ == "__main__":
                context = multiprocessing.get_context("spawn")  # starts a tracker
                q = SharedMemoryQueue("q", create=True, capacity=9, run_id=sys.argv[1])
                for how in ("end", "kill"):
                    process = context.Process(target=child, args=(how,))
                    process.start()
                    process.join()
            """
        )
    )
    result = subprocess.run(
        [sys.executable, str(program), run_id], capture_output=True, text=True, timeout=LONG, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    with attach(run_id) as q:
        assert q.get_batch(9) == ["end", "kill"]
        q.unlink()
