"""A handle whose queue is gone touches nothing that has its name now."""

from __future__ import annotations

import fcntl
import pickle
from contextlib import ExitStack
from pathlib import Path

import pytest

from shared_multiprocess_queue import QueueNotFoundError
from shared_multiprocess_queue._platform import shared_memory
from tests.support.places import SHM
from tests.support.segments import attach, create, remove, slow_creator
from tests.support.waiting import SOON, in_thread

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


def refuse(*_: object, **__: object) -> None:
    raise PermissionError("another user's")


def test_to_unlink_again_opens_nothing(run_id: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    q = create(run_id)
    q.unlink()
    path.write_bytes(b"another's")
    monkeypatch.setattr(shared_memory._posixshmem, "shm_open", refuse)  # type: ignore[attr-defined]
    q.unlink()
    q.close()
    assert path.read_bytes() == b"another's"
    path.unlink()


def test_a_stale_handle_does_not_unpickle_and_waits_for_nobody(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a creator of another queue under its name, for which it does not wait."""
    q = create(run_id)
    data = pickle.dumps(q)
    remove(q)
    with slow_creator(run_id, monkeypatch, "before its memory") as go_on:
        with pytest.raises(QueueNotFoundError, match=r"is gone, and another one has its name"):
            in_thread(pickle.loads, data).result(SOON)
        go_on()
    with attach(run_id) as newer:
        newer.unlink()


@pytest.mark.parametrize("is_ready", [True, False])
def test_a_queue_replaced_just_when_its_handle_is_unpickled_is_gone(
    run_id: str, monkeypatch: pytest.MonkeyPatch, is_ready: bool
) -> None:
    """The handle attaches to no other queue."""
    q = create(run_id)
    data = pickle.dumps(q)
    with ExitStack() as until_the_end:
        real = shared_memory.means

        def replaced_behind_it(name: str, identity: tuple[int, int]) -> bool:
            found = real(name, identity)
            monkeypatch.undo()
            q.unlink()
            if is_ready:
                until_the_end.callback(remove, create(run_id))
            else:
                file = until_the_end.enter_context((SHM / name).open("xb"))
                until_the_end.callback((SHM / name).unlink)
                fcntl.flock(file, fcntl.LOCK_EX)
            return found

        monkeypatch.setattr(shared_memory, "means", replaced_behind_it)
        with pytest.raises(QueueNotFoundError, match="another one has its name"):
            in_thread(pickle.loads, data).result(SOON)
    q.close()


def test_a_handle_that_is_unpickled_too_late_says_what_happened(run_id: str) -> None:
    """A spawned child finds this on its stderr, and nothing else of its parent."""
    q = create(run_id)
    data = pickle.dumps(q)
    remove(q)
    with pytest.raises(QueueNotFoundError, match=r"is gone: it was unlinked before .* keep it open"):
        pickle.loads(data)
