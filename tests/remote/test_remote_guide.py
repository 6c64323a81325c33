"""What docs/remote.md shows runs, and the user that it describes may do all that is needed."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from typing import Any

import pytest

from shared_multiprocess_queue import RemoteQueue
from tests.support.places import REPOSITORY
from tests.support.servers import Server

GUIDE = (REPOSITORY / "docs" / "remote.md").read_text("utf-8")


def test_what_the_guide_shows_runs(own_server: Server) -> None:
    (snippet,) = re.findall(r"^```py\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    program = snippet.replace("127.0.0.1:6379", f"127.0.0.1:{own_server.port}")
    assert program != snippet
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == re.findall(r"^ *print\(.*\)\s+# (.*)$", snippet, re.MULTILINE)


def test_the_guide_has_all_arguments_and_their_defaults() -> None:
    table = GUIDE.partition("## Arguments")[2].partition("## ")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| `")]
    found = {
        name: value for row in rows for name, value in zip(*(re.findall("`(.*?)`", one) for one in row), strict=True)
    }
    parameters = list(inspect.signature(RemoteQueue.__init__).parameters.values())[2:]
    assert found == {one.name: repr(one.default) for one in parameters}


@pytest.mark.filterwarnings("ignore:a Lease was dropped:ResourceWarning")
def test_the_user_of_the_guide_may_do_all_and_no_more(own_server: Server) -> None:
    ((command),) = re.findall(r"ACL SETUSER (worker .*?)```", GUIDE, re.DOTALL)
    line = command.replace("\\\n", " ").replace("'", "")
    assert own_server.command("ACL", "SETUSER", *line.split())[0] == b"+OK"
    own_server.command("ACL", "LOG", "RESET")
    with RemoteQueue[Any](
        own_server.url(user="worker:password@"), create=True, capacity=5, leases=3, lease=1, max_deliveries=1
    ) as q:
        q.put_batch([1, 2, 3, 4])
        q.put(5, timeout=0)
        q.lease().release()
        (letter,) = q.dead_letters()
        letter.put_back()
        with q.lease() as lease:
            q._handle.run(q._handle.calls.simple("keep", lease.held.token))
            assert lease.item == 1
        q.lease().release(delay=0.01)
        (letter,) = q.dead_letters()
        letter.done()
        assert not q.join(timeout=0.05)
        with pytest.raises(q.Full):
            q.put_batch(range(5), timeout=0.05)
        ferry = q._ferry("here")
        ferry.begin()
        assert ferry.bring([7], [(8, ferry.entry_of("x"))]) == 0
        for _ in range(4):
            q.get()
            q.task_done()
        with pytest.raises(q.Empty):
            q.get(timeout=0.05)
        # A clock that was set back, with something leased and something given back.
        q.put_batch([1, 2])
        lease = q.lease()
        (meta,) = (key for key in own_server.command("KEYS", "*:m") if key.startswith(b"shmq:"))
        own_server.command("HINCRBY", meta.decode(), "time", "5000")
        q.get()
        q.get_metrics()
        q.shutdown(immediate=True)
        q.unlink()
    log = [line for line in own_server.command("ACL", "LOG") if line.startswith((b"info", b"command"))]
    assert set(log) <= {b"info", b"command"}, "what was refused but for INFO"
    given = {word.lstrip("+").partition("|")[0] for word in line.split() if word.startswith("+")}
    room = REPOSITORY / "shared_multiprocess_queue" / "_remote"
    source = "".join((room / name).read_text("utf-8") for name in ("lua.py", "item_scripts.py", "other_scripts.py"))
    used = {name.lower() for name in re.findall(r"redis\.call\('(\w+)'", source)}
    by_client = {"evalsha", "eval", "blpop", "ping", "hello", "auth", "select", "hget", "hgetall", "unlink"}
    assert given == used | by_client
