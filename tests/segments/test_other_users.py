"""Segments of another user are neither used nor removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shared_multiprocess_queue import QueueExistsError
from shared_multiprocess_queue._platform import atomic_words, shared_memory
from tests.support.children import end_of, fork
from tests.support.places import SHM
from tests.support.segments import LEFTOVERS, MARK, NOBODY, ROOT, attach, create, remove, segments_of, works

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(not SHM.is_dir(), reason="looks at segments as files"),
]


# ---- whose segment --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not ROOT, reason="only root can give a file away")
def test_a_segment_of_another_user_is_not_used(run_id: str, path: Path) -> None:
    q = create(run_id)
    os.chown(path, NOBODY, NOBODY)
    before = path.read_bytes()
    with pytest.raises(PermissionError, match=rf"belongs to user {NOBODY}"):
        attach(run_id)
    with pytest.raises(QueueExistsError):
        create(run_id)
    assert path.read_bytes() == before
    os.chown(path, 0, 0)
    remove(q)


@pytest.mark.skipif(not ROOT, reason="only root can give a file away")
@pytest.mark.parametrize("kind", LEFTOVERS)
def test_what_another_users_creator_left_is_not_removed(run_id: str, path: Path, kind: str) -> None:
    path.write_bytes(LEFTOVERS[kind])
    os.chown(path, NOBODY, NOBODY)
    with pytest.raises(QueueExistsError):
        create(run_id)
    assert path.read_bytes() == LEFTOVERS[kind]
    path.unlink()


@pytest.mark.skipif(not ROOT, reason="needs root to become another user")
def test_another_user_can_neither_use_nor_remove_a_queue(run_id: str, path: Path, lock_path: Path) -> None:
    q = create(run_id)

    def child() -> None:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        with pytest.raises(PermissionError):
            attach(run_id)
        with pytest.raises(OSError, match=path.name):
            create(run_id)

    assert end_of(fork(child)) == 0
    assert path.exists()
    assert lock_path.exists()
    assert works(q)
    remove(q)


# ---- unlink ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not ROOT, reason="needs root to become another user")
@pytest.mark.parametrize("is_closed", [False, True])
def test_to_unlink_again_leaves_another_users_segment_alone(run_id: str, path: Path, is_closed: bool) -> None:
    def child() -> None:
        os.seteuid(NOBODY)
        q = create(run_id)
        q.unlink()
        if is_closed:
            q.close()
        os.seteuid(0)
        path.touch(0o600)
        inode = path.stat().st_ino
        os.seteuid(NOBODY)
        q.unlink()
        q.close()
        assert path.stat().st_ino == inode

    atomic_words.prepare()  # the other user may not be let into the folder of the package atomics
    assert end_of(fork(child)) == 0
    path.unlink()


def test_a_name_that_becomes_another_users_during_unlink_is_left_alone(
    run_id: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    q = create(run_id)

    def become_anothers(*_: object, **__: object) -> None:
        path.unlink()
        path.write_bytes(b"another's")
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(shared_memory, "open_existing", become_anothers)
        q.unlink()
    assert path.read_bytes() == b"another's"
    q.close()
    for name in segments_of(run_id):
        (SHM / name).unlink()


# ---- files that cannot be opened ------------------------------------------------------------------------------------


@pytest.mark.skipif(not ROOT, reason="needs root to become another user")
@pytest.mark.parametrize("mode", [0o400, 0o000, 0o200])
def test_a_file_that_its_own_user_may_not_open_says_so(run_id: str, path: Path, mode: int) -> None:
    def child() -> None:
        os.seteuid(NOBODY)
        path.write_bytes(MARK)
        path.chmod(mode)
        for call, expected in ((attach, PermissionError), (create, QueueExistsError)):
            with pytest.raises(expected, match=rf"'{path.name}'.* its mode {mode:04o} .* chmod") as refused:
                call(run_id)
            assert isinstance(refused.value, OSError)

    assert end_of(fork(child)) == 0
    path.unlink()


@pytest.mark.skipif(not ROOT, reason="needs root to become another user")
@pytest.mark.parametrize("content", [b"", MARK, b"another's"])
def test_another_users_file_says_whose_it_is(run_id: str, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)

    def child(me: int, owner: int) -> None:
        os.chown(path, owner, owner)
        os.seteuid(me)
        for call, expected in ((attach, PermissionError), (create, QueueExistsError)):
            with pytest.raises(expected, match=rf"'{path.name}'.* belongs to user {owner}, .* choose another name"):
                call(run_id)
        os.seteuid(0)

    assert end_of(fork(lambda: child(NOBODY, 0))) == 0
    assert end_of(fork(lambda: child(0, NOBODY))) == 0
    assert path.read_bytes() == content
    path.unlink()
