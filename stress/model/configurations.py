"""The sizes at which each model is searched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Configuration:
    """A model at certain sizes.

    Attributes:
        model: a file of this folder, without its ending.
        what: a description for people.
        defines: the sizes that are not the model's own; ``BUG_...`` plants a bug.
        long: whether only the long form runs it.
        bits: whether states are remembered as bits of a hash: it has too many, and some are taken for others, so this
            searches for errors and proves nothing.
    """

    model: str
    what: str
    defines: str = ""
    long: bool = False
    bits: bool = False


def _ring(what: str, defines: str, *, long: bool = False, bits: bool = False) -> Configuration:
    return Configuration("ring", what, defines, long, bits)


def _leased(what: str, defines: str, *, long: bool = False) -> Configuration:
    return Configuration("shutdown", f"a lease slot: {what}", f"-DNL=1 {defines}".strip(), long)


def _large(what: str, defines: str, *, long: bool = False) -> Configuration:
    return Configuration("large", f"items of two slots: {what}", defines, long)


CONFIGURATIONS: Final = (
    _ring("a batch of two, two getters of two", ""),
    _ring("a batch of two, dies", "-DCRASH=1 -DGETTERS=1"),
    _ring("a batch of three, dies", "-DPUT0=3 -DCAP=3 -DCRASH=1 -DGETTERS=1"),
    _ring("a batch of two, a getter of two dies", "-DCRASH=1 -DMORTAL=2"),
    _ring("a batch of two is abandoned, or dies, or both", "-DGETTERS=1 -DCRASH=1 -DINTR=1"),
    _ring("two puts, one dies, nobody gets meanwhile", "-DPUTTERS=2 -DPUT0=1 -DCAP=1 -DGETTERS=1 -DCRASH=1 -DIDLE"),
    _ring("an item, a getter dies, two adopt", "-DPUTTERS=0 -DFILLED=1 -DCAP=1 -DGETTERS=3 -DCRASH=1 -DMORTAL=1"),
    _ring("an item, a get is abandoned", "-DPUTTERS=0 -DFILLED=1 -DGETTERS=2 -DCAP=3 -DINTR=1"),
    _ring(
        "an item, a getter dies, its record is taken",
        "-DPUTTERS=0 -DFILLED=1 -DGETTERS=2 -DNEWCOMER=1 -DNO_SPARE -DCRASH=1 -DCAP=3",
    ),
    _ring("spsc: two producers, one dies", "-DSPSC -DPUTTERS=2 -DPUT0=1 -DGETTERS=1 -DCAP=1 -DCRASH=1"),
    _ring("spsc: a batch, two consumers, one dies", "-DSPSC -DGETTERS=2 -DCRASH=1"),
    _ring("spsc: a batch, two consumers, one is interrupted", "-DSPSC -DGETTERS=2 -DINTR=1 -DINTERRUPTIBLE=2"),
    _ring("a batch of two, two getters of two, a death", "-DCRASH=1", long=True),
    _ring("the same, every step apart", "-DCRASH=1 -DTORN", long=True),
    _ring("a batch of two and a put, a death", "-DPUTTERS=2 -DGETTERS=1 -DCRASH=1", long=True),
    _ring(
        "a put and a batch of two, both die", "-DPUTTERS=2 -DPUT0=1 -DPUT1=2 -DCAP=3 -DGETTERS=1 -DCRASH=2", long=True
    ),
    _ring("two batches of two, a death", "-DPUTTERS=2 -DPUT1=2 -DGETTERS=1 -DCRASH=1", long=True),
    _ring("a batch of two, a newcomer, a death", "-DGETTERS=1 -DNEWCOMER=1 -DCRASH=1", long=True),
    _ring("an item, two of three getters die", "-DPUTTERS=0 -DFILLED=1 -DCAP=1 -DGETTERS=3 -DCRASH=2", long=True),
    _ring("a ring that is full, a put, getters, a death", "-DFILLED=2 -DPUT0=1 -DCRASH=1", long=True),
    _ring(
        "spsc: two producers, one is interrupted", "-DSPSC -DPUTTERS=2 -DPUT0=1 -DGETTERS=1 -DCAP=1 -DINTR=1", long=True
    ),
    _ring("a batch of two and a put, an interrupt", "-DPUTTERS=2 -DGETTERS=1 -DINTR=1", long=True),
    _ring("a batch of two, two getters of two, a death and an interrupt", "-DCRASH=1 -DINTR=1", long=True),
    _ring(
        "a batch of two, a newcomer, a death and an interrupt", "-DGETTERS=1 -DNEWCOMER=1 -DCRASH=1 -DINTR=1", long=True
    ),
    _ring(
        "all of it: batches on both sides, a newcomer, a death and an interrupt",
        "-DGETTERS=2 -DNEWCOMER=1 -DCRASH=1 -DINTR=1 -DINTERRUPTIBLE=3",
        long=True,
        bits=True,
    ),
    _ring("a batch of two and a put, two getters of two, a death", "-DPUTTERS=2 -DCRASH=1", long=True, bits=True),
    Configuration("lock", "two, twice each, a death", "-DN=2 -DROUNDS=2 -DCRASH=1"),
    Configuration("lock", "two, a death and an interrupt", "-DN=2 -DCRASH=1 -DINTR=1"),
    Configuration("lock", "three, a late release", "-DLATE_RELEASE"),
    Configuration("lock", "three, two die", "-DCRASH=2", long=True),
    Configuration("lock", "three, a death and an interrupt", "-DCRASH=1 -DINTR=1", long=True),
    Configuration("gate", "a batch dies, a batch stops", "-DCRASH=1 -DSTOPPED=1"),
    Configuration("gate", "a worker puts what follows from its item, a batch dies", "-DFOLLOWS=2 -DCRASH=1"),
    Configuration("wake", "two and two"),
    Configuration("wake", "three items of one, three getters", "-DPRODUCERS=1 -DITEMS=3 -DGETTERS=3", long=True),
    Configuration("wake", "three producers, a getter of three", "-DPRODUCERS=3 -DGETTERS=1", long=True),
    Configuration("lease", "an item, two getters, a death", "-DNG=2"),
    Configuration("lease", "two puts, two getters, a death", "-DNG=2 -DFILLED=0 -DPUTS=2"),
    Configuration("lease", "an item, join, a death, an item comes back", "-DNG=2 -DJOIN=1 -DRELEASES=1"),
    Configuration(
        "lease",
        "two items, two lease slots, a death, an interrupt, an item comes back",
        "-DNG=2 -DCAP=2 -DNL=2 -DFILLED=2 -DINTR=1 -DRELEASES=1",
        long=True,
    ),
    Configuration("moving", "an item of a dead getter, a letter that is put back, a death"),
    Configuration("moving", "the same with one getter, join, a death", "-DJOIN -DNG=1"),
    Configuration("moving", "the same with two getters, a shutdown, no death", "-DSHUT -DCRASH=0", long=True),
    Configuration("lease", "an item, two of three getters die", "-DCRASH=2", long=True),
    Configuration("lease", "the same, the item comes back", "-DCRASH=2 -DRELEASES=1", long=True),
    Configuration("lease", "an item, two lease slots, two of three getters die", "-DNL=2 -DCRASH=2", long=True),
    Configuration("lease", "two items, three getters, a death", "-DCAP=2 -DFILLED=2", long=True),
    Configuration("lease", "an item, three getters, a death and an interrupt", "-DINTR=1", long=True),
    Configuration("lease", "a put, join, two deaths", "-DNG=2 -DJOIN=1 -DFILLED=0 -DPUTS=1 -DCRASH=2", long=True),
    Configuration("lease", "an item and a put, join, a death", "-DNG=2 -DJOIN=1 -DPUTS=1", long=True),
    _large("one, and a small one, a death", "-DNC=1 -DPLAN=1"),
    _large("two, two getters, a death", "-DPLAN=2"),
    _large("one, leased, and a small one, a death", "-DNC=1 -DPLAN=1 -DLEASE"),
    _large("two, leased, a getter, two deaths", "-DNC=1 -DPLAN=2 -DCRASH=2 -DLEASE"),
    _large("a part that nothing leads to, one, a small one, a death", "-DNC=1 -DPLAN=1 -DDAMAGE"),
    _large("one and a small one of the same put, two getters, a death", "-DPLAN=0", long=True),
    _large("one and a small one, three slots, two getters, a death", "-DCAP=3 -DPLAN=0", long=True),
    _large("one, three slots, two getters, two deaths", "-DCAP=3 -DPLAN=1 -DCRASH=2", long=True),
    _large("one, and a small one of another, a death", "-DNP=2 -DNC=1 -DPLAN=1", long=True),
    _large("one, and a small one of another, three slots, a death", "-DNP=2 -DNC=1 -DCAP=3 -DPLAN=1", long=True),
    _large("two, leased, two getters, a death", "-DPLAN=2 -DLEASE", long=True),
    Configuration("doorbell", "an item, two doorbells, a death", "-DCRASH=1"),
    Configuration("doorbell", "an item, two doorbells, one may leave", "-DLEAVES=1"),
    Configuration("doorbell", "a batch of two, two doorbells", "-DBATCH=2"),
    Configuration("doorbell", "an item, a sleeper and a doorbell, a death", "-DSLEEPERS=1 -DBELLS=1 -DCRASH=1"),
    Configuration("doorbell", "an item, two doorbells, everybody is woken meanwhile", "-DWAKE_ALL=1"),
    Configuration("doorbell", "an item, two doorbells, a death, a successor", "-DCRASH=1 -DSUCCESSORS=1", long=True),
    Configuration("doorbell", "two items, two doorbells", "-DPRODUCERS=2", long=True),
    Configuration("doorbell", "the same, after a death in its sleep", "-DPRODUCERS=2 -DFALLEN=1", long=True),
    Configuration("doorbell", "two items, a sleeper and a doorbell", "-DPRODUCERS=2 -DSLEEPERS=1 -DBELLS=1", long=True),
    Configuration("doorbell", "an item, two doorbells, one may leave, a death", "-DLEAVES=1 -DCRASH=1", long=True),
    Configuration("doorbell", "two items, two doorbells, a death", "-DPRODUCERS=2 -DCRASH=1", long=True, bits=True),
    Configuration("birth", "a creator, an unlinker, an attacher, a death", "-DCREATORS=1 -DUNLINKERS=1 -DCRASH=1"),
    Configuration("birth", "two creators, an unlinker, an attacher, a death", "-DCRASH=1", long=True),
    Configuration("birth", "the same, two die", "-DCRASH=2", long=True),
    Configuration("birth", "a creator, two unlinkers, two die", "-DCREATORS=1 -DUNLINKERS=2 -DCRASH=2", long=True),
    Configuration("handle", "close, and a fork"),
    Configuration("shutdown", "a put"),
    Configuration("shutdown", "a batch of two, a death", "-DCAP=2 -DBATCH=2 -DCRASH=1"),
    Configuration("shutdown", "at once: an item, a put", "-DIMMEDIATE -DFILLED=1"),
    _leased("a put", ""),
    _leased("an item, a death, it comes back", "-DFILLED=1 -DBATCH=0 -DRELEASES=1 -DCRASH=1"),
    _leased("an item, sleepers that only a wake ends, one leaves", "-DFILLED=1 -DBATCH=0 -DWAKE -DONCE"),
    _leased("at once: an item, a death", "-DIMMEDIATE -DFILLED=1 -DBATCH=0 -DCRASH=1"),
    _leased("spsc: an item, a death", "-DSPSC -DFILLED=1 -DBATCH=0 -DCRASH=1"),
    _leased(
        "spsc, at once: an item, join, it comes back", "-DSPSC -DIMMEDIATE -DJOIN -DFILLED=1 -DBATCH=0 -DRELEASES=1"
    ),
    _leased("a put, a death", "-DCRASH=1", long=True),
    _leased("an item, join, a death", "-DJOIN -DFILLED=1 -DBATCH=0 -DCRASH=1", long=True),
    _leased("at once: an item, join, it comes back", "-DIMMEDIATE -DJOIN -DFILLED=1 -DBATCH=0 -DRELEASES=1", long=True),
    _leased("at once: an item, join, a death", "-DIMMEDIATE -DJOIN -DFILLED=1 -DBATCH=0 -DCRASH=1", long=True),
    _leased("an item, a put, a death", "-DFILLED=1 -DCRASH=1", long=True),
    Configuration(
        "shutdown",
        "two lease slots: an item, a death, it comes back",
        "-DNL=2 -DCAP=2 -DFILLED=1 -DBATCH=0 -DRELEASES=1 -DCRASH=1",
        long=True,
    ),
    Configuration("shutdown", "an item, a put, a death", "-DFILLED=1 -DCRASH=1", long=True),
    Configuration("shutdown", "a put, shut down twice, a death", "-DSHUTTERS=2 -DCRASH=1", long=True),
    Configuration("shutdown", "an item, a put, sleepers that only a wake ends", "-DWAKE -DFILLED=1", long=True),
    Configuration("shutdown", "two puts", "-DPUTTERS=2", long=True),
)
