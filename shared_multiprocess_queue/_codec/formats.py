"""The format of a queue's items, as a process has asked for it, and the codec for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, NoReturn, Protocol

from .._platform.lazy_import import late
from .codec import Codec, DefinitionStore
from .own_format import OwnCodec, name_of

__all__ = ["Format", "ItemCodec", "Serializer"]

Serializer = Literal["pickle", "plain"]
PlainReader = Callable[[Callable[[str], Any], bytes], Any]


class ItemCodec(Protocol):
    """What an engine needs of a codec; ``Codec`` says more of each."""

    @property
    def bare_tag(self) -> int:
        """The tag of an item that is bytes, as a program writes them in place."""

    @property
    def dumps(self) -> Callable[..., bytes] | None:
        """Pickle an item of exact built-in types; None if the native engine must not pickle."""

    @property
    def loads(self) -> Callable[[bytes], Any] | None:
        """Unpickle; None likewise."""

    @property
    def load(self) -> Callable[[str], Any] | None:
        """Return a module to which everyday objects belong; None if the native engine must read and write nothing."""

    def read_plain_by(self, read: PlainReader) -> None:
        """Read everyday objects by a reader of the engine, which takes ``load``, too."""

    def copy_by(self, copy: Callable[[Any], Any]) -> None:
        """Copy buffers that arrive by a function of the engine."""

    def encode(self, item: object) -> tuple[Any, int]:
        """Turn an item into a payload and its tag."""

    def encode_object(self, item: Any) -> tuple[Any, int]:
        """Turn an item that is no bare value into a payload and its tag."""

    def fit(self, payload: Any, tag: int, index: int | None = None) -> tuple[Any, int]:
        """Make a payload smaller that is too large for a slot, or raise."""

    def withdraw(self, payload: Any) -> None:
        """Take back what ``encode`` has set aside for the receiver of an item that was not put."""

    def decode(self, payload: Any, tag: int) -> Any:
        """Turn a payload back into an item."""

    def fail_to_decode(self, payload: Any, error: Exception) -> NoReturn:
        """Raise the error of ``decode`` for one that was raised while the native engine read."""


class Format(NamedTuple):
    """How the items of a queue are written, as the program has asked for it.

    Attributes:
        serializer: "pickle" or "plain"; without a meaning if there are functions.
        functions: the program's own ``dumps`` and ``loads``, or None.
    """

    serializer: Serializer = "pickle"
    functions: tuple[Callable[[Any], Any], Callable[[bytes], Any]] | None = None

    @property
    def name(self) -> str:
        """The text by which processes compare their formats."""
        return self.serializer if self.functions is None else " ".join(map(name_of, self.functions))

    def codec(self, definitions: Callable[[], DefinitionStore], max_item_size: int) -> ItemCodec:
        """Return the codec for a queue.

        Args:
            definitions: makes the store of definitions of ``__main__``, for the codec that has such.
            max_item_size: the largest payload that the queue takes, in bytes.
        """
        if self.functions is not None:
            return OwnCodec(*self.functions, max_item_size)
        if self.serializer == "plain":
            made: ItemCodec = _plain_codec()(max_item_size)
            return made
        return Codec(definitions(), max_item_size)


@late
def _plain_codec() -> type[Any]:
    """Import the codec of everyday objects, which a program with other queues does not need."""
    from .plain_codec import PlainCodec  # noqa: PLC0415

    return PlainCodec
