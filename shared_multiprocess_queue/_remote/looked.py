"""What a look at a queue on a server has seen."""

from __future__ import annotations

from typing import Any

__all__ = ["Look"]


class Look:
    """What a look at a queue has seen, at one moment.

    Attributes:
        waiting: items that no getter has.
        in_line: those of them that take room from puts; the others came back.
        leased: items that getters have.
        dead: dead letters.
        holders: of what is leased, at most 1,000: name, position, deliveries, and seconds until the lease ends.
    """

    def __init__(self, answer: list[Any]) -> None:
        _, in_line, returned, leased, dead, fields, tokens, now = answer
        self._fields = dict(zip(fields[::2], fields[1::2], strict=True))
        self.in_line: int = in_line - self.number("offered")
        self.waiting: int = in_line + returned
        self.leased: int = leased
        self.dead: int = dead
        self.holders: list[tuple[str, int, int, float]] = []
        for token, ends in zip(tokens[::2], tokens[1::2], strict=True):
            position, deliveries, _, holder = token.decode().split(":", 3)
            self.holders.append((holder, int(position), int(deliveries), (float(ends) - now) / 1000))

    def number(self, field: str) -> int:
        """Return a counter."""
        return int(self._fields.get(field.encode(), 0))
