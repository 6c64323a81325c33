"""A folder, a link, a FIFO or a socket under a queue's name is neither used nor waited for."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared_multiprocess_queue import CorruptQueueError, QueueExistsError
from shared_multiprocess_queue._platform import shared_memory
from tests.support.places import SHM
from tests.support.segments import MARK, attach, create
from tests.support.waiting import SOON, in_thread

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


TARGET = "-target"


def make_link(path: Path) -> None:
    path.with_name(path.name + TARGET).write_bytes(MARK)
    path.symlink_to(path.name + TARGET)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


ODD: dict[str, Callable[[Path], object]] = {
    "a folder": Path.mkdir,
    "a symbolic link": make_link,
    "a FIFO": os.mkfifo,
    "a socket": make_socket,
}


@pytest.fixture
def odd(request: pytest.FixtureRequest) -> Iterator[Callable[[Path], None]]:
    """Make something at a path that is no segment; check that it is still there afterwards, and remove it."""
    made: list[tuple[Path, int]] = []

    def make(path: Path) -> None:
        ODD[request.param](path)
        made.append((path, path.lstat().st_ino))

    yield make
    for path, inode in made:
        assert path.lstat().st_ino == inode, "it was replaced"
        path.rmdir() if path.is_dir() else path.unlink()
        target = path.with_name(path.name + TARGET)
        if target.exists():
            assert target.read_bytes() == MARK, "the link was followed"
            target.unlink()


@pytest.mark.parametrize("odd", ODD, indirect=True)
def test_what_is_no_file_is_neither_used_nor_waited_for(
    run_id: str, path: Path, odd: Callable[[Path], None], request: pytest.FixtureRequest
) -> None:
    odd(path)
    kind = request.node.callspec.params["odd"]
    for call, expected in ((attach, CorruptQueueError), (create, QueueExistsError)):
        with pytest.raises(expected, match=rf"'{path.name}'.*: {kind} has that name .*; choose another name .* rm -r"):
            in_thread(call, run_id).result(SOON)


@pytest.mark.parametrize("odd", ODD, indirect=True)
def test_what_is_no_file_in_the_place_of_the_lock_is_an_error(
    run_id: str, path: Path, odd: Callable[[Path], None], request: pytest.FixtureRequest
) -> None:
    """The error leaves no segment behind."""
    lock = path.with_name(f"{path.name}-lock")
    kind = request.node.callspec.params["odd"]
    odd(lock)
    with pytest.raises(CorruptQueueError, match=rf"'{lock.name}'.*: {kind} has that name"):
        in_thread(create, run_id).result(SOON)
    assert not path.exists()
    lock.rename(lock.with_name(f"{run_id}-away"))
    q = create(run_id)
    lock.rename(lock.with_name(f"{run_id}-real"))
    lock.with_name(f"{run_id}-away").rename(lock)
    with pytest.raises(CorruptQueueError, match=rf"'{lock.name}'.*: {kind} has that name"):
        in_thread(attach, run_id).result(SOON)
    q.unlink()  # of the queue it removes what is the queue's
    q.close()
    assert not path.exists()
    lock.with_name(f"{run_id}-real").unlink()


@pytest.mark.parametrize("odd", ["a FIFO"], indirect=True)
def test_a_file_that_becomes_a_fifo_behind_the_look_is_refused_too(
    run_id: str, path: Path, odd: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    odd(path)
    monkeypatch.setattr(shared_memory, "_status_of", lambda _: None)
    with pytest.raises(CorruptQueueError, match="a FIFO has that name"):
        in_thread(attach, run_id).result(SOON)
