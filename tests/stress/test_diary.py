"""The verdict over what was done with leased items: each rule can be broken, and is not broken by what is allowed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from stress.harness.diary import Diary, Judgement, Line, What, judge

A, B, C = 11, 12, 13
PUT: list[tuple[What, int]] = [("puts", C), ("put", C)]


def judged(*steps: tuple[What, int] | tuple[What, int, int], item: int = 0) -> Judgement:
    """Judge steps of processes with one item; the third number is what a getter is told, 1 if it is left out."""
    return judge(
        Line(at * 1_000_000_000, item, step[1], step[2] if len(step) > 2 else 1, step[0])
        for at, step in enumerate(steps)
    )


def faults(judgement: Judgement) -> list[str]:
    return judgement.faults + judgement.verdict.findings


def test_an_item_that_is_put_and_ended() -> None:
    found = judged(*PUT, ("has", A), ("ends", A), ("ended", A), ("joins", C), ("joined", C))
    assert not faults(found)
    assert (found.verdict.acknowledged, found.verdict.delivered) == (1, 1)


def test_a_dead_process_explains_another_delivery_and_a_wait() -> None:
    found = judged(*PUT, ("has", A), ("kills", A), ("killed", A), ("has", B, 2), ("ends", B), ("ended", B))
    assert not faults(found)
    assert found.waits == [1.0]
    assert found.moments == Counter({"processing": 1})


def test_an_heir_that_dies_unheard_begins_the_wait_anew() -> None:
    died = [("kills", A), ("killed", A), ("kills", C), ("killed", C)]
    found = judged(*PUT, ("has", A), *died, ("has", B, 3), ("ends", B), ("ended", B))  # type: ignore[arg-type]
    assert not faults(found)
    assert found.waits == [1.0]


def test_a_process_that_dies_ending_an_item_may_have_ended_it() -> None:
    found = judged(*PUT, ("has", A), ("ends", A), ("kills", A), ("killed", A))
    assert not faults(found)
    assert found.verdict.unaccounted == 1
    assert found.moments == Counter({"ending an item": 1})


def test_what_came_back_may_come_again() -> None:
    found = judged(*PUT, ("has", A), ("gives", A), ("has", B, 2), ("ends", B), ("ended", B))
    assert not faults(found)


def test_an_immediate_shutdown_drops_items() -> None:
    assert not faults(judged(*PUT, ("stops", A), ("stopped", A), ("joins", C), ("joined", C)))


BROKEN: dict[str, tuple[list[tuple[What, int] | tuple[What, int, int]], str]] = {
    "lost": ([*PUT], "never ended: item 0"),
    "lost by a process that lives": ([*PUT, ("has", A), ("ends", A)], "never ended: item 0"),
    "two holders": ([*PUT, ("has", A), ("has", B, 2), ("ends", B), ("ended", B)], "while 11 had it and lived"),
    "killed too late": (
        [*PUT, ("has", A), ("has", B, 2), ("kills", A), ("killed", A), ("ends", B), ("ended", B)],
        "while 11 had it and lived",
    ),
    "after its end": ([*PUT, ("has", A), ("ends", A), ("ended", A), ("has", B, 2)], "after its end"),
    "ended twice": ([*PUT, ("has", A), ("ends", A), ("ended", A), ("ended", B)], "ended twice"),
    "not put": ([("has", A), ("ends", A), ("ended", A)], "was handed out and not put"),
    "refused": ([("puts", C), ("has", A), ("ends", A), ("ended", A), ("refused", C)], "though the put was refused"),
    "told too little": (
        [*PUT, ("has", A), ("kills", A), ("has", B, 1), ("ends", B), ("ended", B)],
        "handed out 2 times, and its getter told 1",
    ),
    "told too much": ([*PUT, ("has", A, 2), ("ends", A), ("ended", A)], "handed out 1 times, and its getter told 2"),
    "a join before the end": (
        [*PUT, ("has", A), ("joins", C), ("joined", C), ("ends", A), ("ended", A)],
        "a join returned before the end of item 0",
    ),
    "a join before the item of a dead process": (
        [
            *(*PUT, ("has", A), ("ends", A), ("kills", A), ("joins", C), ("joined", C)),
            *(("has", B, 2), ("ends", B), ("ended", B)),
        ],
        "after the return of a join",
    ),
    "a join while a process has an item of a stopped queue": (
        [*PUT, ("has", A), ("stops", B), ("stopped", B), ("joins", C), ("joined", C), ("ends", A), ("ended", A)],
        "a join returned before the end of item 0",
    ),
    "an item of a stopped queue after a join": (
        [*PUT, ("stops", B), ("stopped", B), ("joins", C), ("joined", C), ("has", A), ("ends", A), ("ended", A)],
        "after an immediate shutdown and a join",
    ),
    "an item after the end": (
        [*PUT, ("found the end", B), ("has", A), ("ends", A), ("ended", A)],
        "after a get had found the end",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_each_rule_can_be_broken(name: str) -> None:
    steps, told = BROKEN[name]
    found = judged(*steps)
    assert any(told in fault for fault in faults(found)), faults(found)
    assert found.faults or not found.verdict.ok


def test_a_diary_gives_back_what_was_noted(tmp_path: Path) -> None:
    diary = Diary(tmp_path / "diary")
    diary.note("puts", 1 << 40)
    diary.note("has", 3, 2, pid=A)
    diary.close()
    first, second = diary.read()
    assert (first.what, first.item) == ("puts", 1 << 40)
    assert second[1:] == (3, A, 2, "has")
    assert first.at <= second.at


# ---- dead letters ---------------------------------------------------------------------------------------------------


def judged_with_letters(*steps: tuple[What, int] | tuple[What, int, int]) -> Judgement:
    return judge(
        (
            Line(at * 1_000_000_000, 0, step[1], step[2] if len(step) > 2 else 1, step[0])
            for at, step in enumerate(steps)
        ),
        has_letters=True,
    )


def test_a_letter_that_is_put_back_begins_anew() -> None:
    had: list[tuple[What, int]] = [*PUT, ("has", A), ("gives", A)]
    ended: list[tuple[What, int]] = [("ends", B), ("ended", B)]
    assert not faults(judged_with_letters(*had, ("puts back", C), ("has", B), *ended))
    assert faults(judged_with_letters(*had, ("has", B), *ended))


def test_of_two_that_end_a_letter_the_one_that_dies_may_have_ended_it() -> None:
    had: list[tuple[What, int]] = [*PUT, ("has", A), ("gives", A)]
    found = judged_with_letters(*had, ("ends", A), ("ends", B), ("kills", A), ("killed", A), ("keeps", B))
    assert (faults(found), found.verdict.unaccounted) == ([], 1)
    found = judged_with_letters(*had, ("ends", B), ("keeps", B))
    assert found.verdict.lost == 1


def test_a_letter_that_was_ended_comes_no_more() -> None:
    had: list[tuple[What, int]] = [*PUT, ("has", A), ("gives", A), ("ends", B), ("ended", B)]
    assert judged_with_letters(*had, ("has", A)).verdict.doubled == 1
    assert judged_with_letters(*had, ("ends", C), ("ended", C)).verdict.doubled == 1


def test_a_join_beside_letters_waits_for_what_is_in_work() -> None:
    end: list[tuple[What, int]] = [("joined", C), ("ends", A), ("ended", A)]
    assert faults(judged_with_letters(*PUT, ("has", A), ("joins", C), *end))
    assert not faults(judged_with_letters(*PUT, ("joins", C), ("has", A), *end))
    letter: list[tuple[What, int]] = [("has", A), ("gives", A), ("joins", C), ("joined", C), ("ends", B), ("ended", B)]
    assert not faults(judged_with_letters(*PUT, *letter))
