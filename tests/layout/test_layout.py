"""The table of offsets has no overlaps."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_multiprocess_queue._platform import processes as _processes
from shared_multiprocess_queue._platform import shared_memory
from shared_multiprocess_queue._ring import layout
from shared_multiprocess_queue._ring.layout import LINE, WORD, Geometry
from tests.support.words import GREATEST

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


# ---- the header -----------------------------------------------------------------------------------------------------


def header_words() -> dict[str, int]:
    """Return every word of the header by name, with those that consist of several spelled out."""
    found = {name: value for name, value in vars(layout).items() if name.endswith("_AT")}
    first = found.pop("NAMESPACES_AT")
    found |= {f"namespace {number}": first + number * WORD for number in range(layout.NAMESPACES)}
    first = found.pop("FORMAT_NAME_AT")
    found |= {f"format name {at}": first + at for at in range(0, layout.FORMAT_NAME_SIZE, WORD)}
    found |= {"HEAD": layout.HEAD, "TAIL": layout.TAIL}
    for side in ("ITEMS", "SPACE", "IDLE"):
        found[f"{side} epoch"] = getattr(layout, side) + layout.WAKE_EPOCH
        found[f"{side} hint"] = getattr(layout, side) + layout.WAKE_HINT
    return found


def test_header_words_are_aligned_and_do_not_overlap() -> None:
    """They end before the records."""
    words = header_words()
    assert len(words) > 80, "this test has lost sight of the header"
    assert len(set(words.values())) == len(words)
    for name, at in words.items():
        assert at % WORD == 0, name
        assert 0 <= at <= layout.RECORDS_START - WORD, name


def test_words_that_two_sides_write_have_cache_lines_of_their_own() -> None:
    lines = {name: at // LINE for name, at in header_words().items()}
    groups = {
        "head": {lines["HEAD"]},
        "tail": {lines["TAIL"]},
        "getters' wake words": {lines["ITEMS epoch"], lines["ITEMS hint"]},
        "putters' wake words": {lines["SPACE epoch"], lines["SPACE hint"]},
        "returns": {lines["RETURNED_AT"], lines["LOOK_AT"]},
        "wake words of join": {lines["IDLE epoch"], lines["IDLE hint"]},
        "locks": {lines["BATCH_OWNER_AT"], lines["GATE_AT"]},
        "roles": {lines["PRODUCER_AT"], lines["CONSUMER_AT"]},
        "constants": {lines["MAGIC_AT"], lines["SEGMENT_SIZE_AT"]},
        "more constants": {lines["LEASES_AT"], lines["MAX_DELIVERIES_AT"], lines["FORMAT_AT"]},
        "format name": {lines[f"format name {at}"] for at in range(0, layout.FORMAT_NAME_SIZE, WORD)},
        "counts": {lines["TOMBS_AT"], lines["GET_WAITS_AT"]},
        "more counts": {lines["REDELIVERED_AT"], lines["DEAD_LETTERS_AT"]},
        "marks": {lines["UNLINKED_AT"], lines["RECORDS_USED_AT"], lines["STOPPED_AT"]},
        "namespaces": {lines["namespace 0"], lines[f"namespace {layout.NAMESPACES - 1}"]},
    }
    taken: dict[int, str] = {}
    for group, its_lines in groups.items():
        for line in its_lines:
            assert taken.setdefault(line, group) == group, f"{group} shares a line with {taken[line]}"


def test_head_and_tail_are_two_lines_apart() -> None:
    assert abs(layout.TAIL - layout.HEAD) >= 2 * LINE, "x86 fetches lines in pairs"


def test_the_magic_lies_where_a_look_at_a_foreign_segment_reaches() -> None:
    assert layout.MAGIC_AT + WORD <= shared_memory._PROBE
    assert len({0, layout.MAGIC, layout.UNFINISHED}) == 3


def test_the_doors_to_the_outside_agree_with_the_layout() -> None:
    """They know nothing of queues, so they state what they share with one."""
    assert shared_memory.MARK_AT == layout.MAGIC_AT
    assert layout.UNFINISHED.to_bytes(WORD, sys.byteorder) == shared_memory.MARK
    assert _processes.START_BITS == layout.OWNER_START_BITS


# ---- records, slots, the whole --------------------------------------------------------------------------------------


def test_the_words_of_a_record_do_not_overlap_and_fill_one_line() -> None:
    names = ("OWNER", "GENERATION", "PUT_BEGIN", "PUT_END", "GET_BEGIN", "GET_END", "ABANDONED", "LOCK_BUSY")
    offsets = [getattr(layout, name) for name in names]
    assert sorted(offsets) == [number * WORD for number in range(len(names))]
    assert len(names) * WORD <= layout.RECORD_SIZE == LINE


def test_the_records_fill_the_room_between_header_and_slots() -> None:
    assert layout.record_at(0) == layout.RECORDS_START
    assert layout.RECORDS_START % LINE == 0
    assert layout.record_at(layout.RECORDS) == layout.SLOTS_START
    assert layout.RECORDS <= layout.NAME_INDEX_MASK, "a name has no room for the index of the last record"


def test_the_fields_of_a_slot_do_not_overlap() -> None:
    assert layout.SLOT_WORD + WORD <= layout.SLOT_LENGTH
    assert layout.SLOT_LENGTH + 4 <= layout.SLOT_META
    assert layout.SLOT_META + 4 <= layout.SLOT_PAYLOAD
    assert (layout.MAX_BATCH - 1) << layout.TAG_BITS | layout.TAG_MASK < 1 << 32, "meta is 32 bits"
    assert layout.MAX_ITEM_SIZE < 1 << 32, "length is 32 bits"


def test_the_states_of_a_slot_fit_beside_the_position() -> None:
    states = {layout.FREE, layout.FULL, layout.TOMB, layout.GIVEN}
    assert len(states) == 4
    assert all(0 <= state <= layout.STATE_MASK for state in states)


@settings(deadline=None, database=None)
@given(
    position=st.integers(0, layout.CLOSED - 1),
    other=st.integers(0, layout.CLOSED - 1),
    mark=st.sampled_from([layout.CLOSED, layout.STOPPED]),
    state=st.integers(0, layout.STATE_MASK),
)
def test_no_word_of_a_slot_fits_a_marked_end(position: int, other: int, mark: int, state: int) -> None:
    """So a put (get) is refused by the comparison that it makes anyway, in C modulo 2^64, too."""
    end = position | mark
    assert layout.unmarked(end) == position
    assert (end << layout.STATE_BITS | state) & layout.WORD_MASK != other << layout.STATE_BITS | state


@settings(deadline=None, database=None)
@given(capacity=st.integers(1, layout.MAX_CAPACITY), item_size=st.integers(1, layout.MAX_ITEM_SIZE))
def test_slots_are_aligned_hold_an_item_and_waste_less_than_a_line(capacity: int, item_size: int) -> None:
    geometry = Geometry.of(capacity, item_size, "mpmc")
    assert (geometry.capacity, geometry.item_size, geometry.mode) == (capacity, item_size, "mpmc")
    assert geometry.stride % LINE == 0
    assert 0 <= geometry.stride - layout.SLOT_PAYLOAD - item_size < LINE
    assert geometry.definitions == layout.SLOTS_START + capacity * geometry.stride
    assert geometry.size == geometry.definitions + layout.DEFINITIONS_SIZE
    assert geometry.definitions % WORD == geometry.size % WORD == 0


def test_the_words_of_a_lease_slot_do_not_overlap_and_fill_one_line() -> None:
    names = ("HOLDER", "COUNT", "POSITION", "SINCE", "DUE", "DELAY", "LENGTH")
    assert [getattr(layout, f"LEASE_{name}") for name in names] == [number * WORD for number in range(len(names))]
    assert layout.LEASE_LENGTH + 4 == layout.LEASE_META
    assert layout.LEASE_META + 4 <= layout.LEASE_HEAD_SIZE == LINE


@settings(deadline=None, database=None)
@given(item_size=st.integers(1, 1 << 20), leases=st.integers(0, layout.MAX_LEASES))
def test_leases_lie_between_the_slots_and_the_definitions(item_size: int, leases: int) -> None:
    geometry = Geometry.of(3, item_size, "mpmc", leases)
    assert geometry.leases == leases
    assert geometry.lease_heads == layout.SLOTS_START + 3 * geometry.stride
    assert geometry.lease_payloads == geometry.lease_heads + leases * layout.LEASE_HEAD_SIZE
    assert geometry.lease_stride % LINE == 0
    assert 0 <= geometry.lease_stride - item_size < LINE
    assert geometry.definitions == geometry.lease_payloads + leases * geometry.lease_stride


@settings(deadline=None, database=None)
@given(position=st.integers(0, GREATEST >> 3), other=st.integers(0, GREATEST >> 3), lease=st.integers(0, 0xFFFF))
def test_a_word_that_names_a_lease_slot_is_known_by_its_position(position: int, other: int, lease: int) -> None:
    word = layout.given_word(position, lease)
    assert 0 <= word <= GREATEST
    assert word & layout.STATE_MASK == layout.GIVEN
    assert word >> layout.GIVEN_LEASE_SHIFT == lease
    assert layout.is_given(word, position)
    same = (position ^ other) & layout.GIVEN_POSITION_MASK == 0
    assert layout.is_given(word, other) == same
    assert not any(layout.is_given(position << 2 | state, position) for state in (0, 1, 2))


# ---- encodings ------------------------------------------------------------------------------------------------------


@settings(database=None)
@given(index=st.integers(0, layout.RECORDS - 1), generation=st.integers(0, (1 << 48) - 1))
def test_a_name_tells_index_and_generation_and_is_never_0(index: int, generation: int) -> None:
    name = layout.name_of(index, generation)
    assert layout.parse_name(name) == (index, generation)
    assert 0 < name <= GREATEST


@settings(database=None)
@given(
    one=st.tuples(st.integers(0, layout.RECORDS - 1), st.integers(0, 1 << 40)),
    other=st.tuples(st.integers(0, layout.RECORDS - 1), st.integers(0, 1 << 40)),
)
def test_two_participants_never_have_the_same_name(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert (layout.name_of(*one) == layout.name_of(*other)) is (one == other)


def test_the_name_0_is_nobodys() -> None:
    index, _ = layout.parse_name(0)
    assert index < 0


@settings(database=None)
@given(
    pid=st.integers(1, layout.OWNER_PID_MASK),
    start=st.integers(0, layout.OWNER_START_MASK),
    namespace=st.integers(0, layout.NAMESPACES),
)
def test_an_owner_word_tells_pid_start_and_namespace(pid: int, start: int, namespace: int) -> None:
    owner = layout.owner_of(pid, start, namespace)
    assert layout.parse_owner(owner) == (pid, start, namespace)
    assert 0 < owner <= GREATEST


@settings(database=None)
@given(pid=st.integers(layout.OWNER_PID_MASK + 1, 1 << 40), namespace=st.integers(0, layout.NAMESPACES))
def test_a_process_whose_pid_does_not_fit_is_one_that_nobody_can_look_up(pid: int, namespace: int) -> None:
    owner = layout.owner_of(pid, 5, namespace)
    assert layout.parse_owner(owner)[2] == 0
    assert owner <= GREATEST


@settings(database=None)
@given(start=st.integers(0, 1 << 60))
def test_a_start_time_that_does_not_fit_is_cut_and_spills_nowhere(start: int) -> None:
    assert layout.parse_owner(layout.owner_of(1, start, 3)) == (1, start & layout.OWNER_START_MASK, 3)
