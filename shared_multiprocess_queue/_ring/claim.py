"""What a get has got hold of; it outlives the get's frames, so that an interrupt between two steps loses nothing."""

from __future__ import annotations

from typing import Final

from .layout import TAG_BITS

Payload = tuple[bytes, int]
"""The bytes of an item and their codec tag."""

CORRUPT: Final = 1 << TAG_BITS
"""The tag of a payload whose slot said more bytes than a slot holds; no codec has it."""


class Claim:
    """The claim of an operation in progress; empty between two operations.

    Attributes:
        taken: the payloads that are this operation's, and not its caller's yet.
        begin: first position that is claimed and not yet freed.
        end: one beyond the last claimed position; begin == end means that nothing is claimed.
        copy: the payload of position ``begin``, while its freeing is being decided.
        orphan: the payload of a dead getter's position, while its adoption is being decided.
        verdict: the outcome of that compare-and-swap, once it is known.
    """

    __slots__ = ("begin", "copy", "end", "orphan", "taken", "verdict")

    def __init__(self) -> None:
        self.taken: list[Payload] = []
        self.begin = 0
        self.end = 0
        self.copy: Payload | None = None
        self.orphan: Payload | None = None
        self.verdict: list[int] = []

    def keep(self, payload: Payload) -> None:
        """Note a payload as taken; noting it again after an interrupt changes nothing."""
        if not (self.taken and self.taken[-1] is payload):
            self.taken.append(payload)

    def settle_adoption(self) -> bool:
        """Keep the orphan if its compare-and-swap was won; return whether it was."""
        orphan, won = self.orphan, bool(self.verdict and self.verdict[0])
        if orphan is not None and won:
            self.keep(orphan)
        self.orphan = None
        return won
