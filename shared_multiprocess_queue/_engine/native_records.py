"""What the parts of a handle ask of an engine in C."""

from __future__ import annotations

from typing import Protocol

from .._ring.claim import Held, Home
from .roles import NativeRoles


class NativeRecords(NativeRoles, Protocol):
    """What an engine in C has beside the records in Python."""

    def shut(self) -> None:
        """Begin no operation any more."""

    def leave(self) -> bool:
        """Give up the records that no operation uses; return whether none is in progress."""

    def is_empty(self) -> bool:
        """Whether a get would find nothing."""

    def is_full(self) -> bool:
        """Whether a put would find no room."""

    def take_bell(self, puts: bool, index: int, /) -> bool:
        """Take the bit of the bell of a record back; see ``Membership.take_bell``."""

    def want_bell(self, puts: bool, index: int, /) -> None:
        """Note that the bell of a record waits, and arm the hint; see ``Membership.want_bell``."""

    def waits_rightly(self, puts: bool, index: int, /) -> bool:
        """Whether a bell still waits, and there is nothing to find; see ``Membership.waits_rightly``."""

    def done(self, home: Home, held: Held, index: int, position: int, deliveries: int, /) -> bool | None:
        """End a lease; return whether it was this process's, or None if its home has not got it."""

    def give_back(
        self, home: Home, held: Held, index: int, position: int, deliveries: int, delay: int, last: bool, /
    ) -> bool | None:
        """End a lease and give its item back; return as ``done`` does."""

    def release(self) -> None:
        """Let go of the memory, if no operation is in progress."""
