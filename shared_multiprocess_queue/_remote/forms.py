"""Items to bytes and back, for a server that others may be able to write to.

An entry is one byte that says its form, 16 bytes of a signature if it is signed, and the payload. What is read is
decided by the reader: it accepts the form that it was told, and no other.
"""

from __future__ import annotations

import hashlib
import hmac
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, Literal

from .._codec import blame, shipped
from .._platform.lazy_import import late
from ..errors import ArgumentError, DeserializationError, ItemTooLargeError, SerializationError, shown

__all__ = ["SERIALIZERS", "Forms", "Serializer", "identity"]

Serializer = Literal["plain", "pickle"]
SERIALIZERS: Final[tuple[Serializer, ...]] = ("plain", "pickle")

_BYTE: Final = {"plain": ord("p"), "pickle": ord("k")}
_SIGNED: Final = 0x80
_SIZE: Final = 16  # bytes of a signature
_SHORTEST, _LONGEST = 16, 64  # bytes of a secret


@late
def _read_plain() -> Any:
    """Return the reader of everyday objects: the one in C if it is there."""
    from .._codec import plain  # noqa: PLC0415

    try:
        from .._native import extension  # noqa: PLC0415
    except ImportError:
        return plain.read
    return partial(extension.read_plain, plain.load)


class Forms:
    """The form in which one handle writes items, and the only one that it reads.

    Args:
        serializer: "plain" for everyday objects, which no program is needed for; "pickle" for all others.
        secret: signs entries; of several the first signs, and each is accepted.
        trust_the_server: whether pickles may be read that nothing has signed.

    Raises:
        ArgumentError: there is no such serializer, a secret cannot be one, or pickles would be read from anyone.
    """

    def __init__(self, serializer: str, secret: bytes | Sequence[bytes] | None, trust_the_server: bool) -> None:
        if sys.byteorder != "little":
            raise ArgumentError(
                "items on a server are in little-endian byte order, and this machine is big-endian; use a local queue"
            )
        if serializer not in SERIALIZERS:
            raise ArgumentError(
                f"serializer must be 'plain' (everyday objects) or 'pickle' (any object), not {shown(serializer)}"
            )
        self.serializer: Serializer = "pickle" if serializer == "pickle" else "plain"
        self._secrets = _secrets(secret)
        if self.serializer == "pickle" and not self._secrets and trust_the_server is not True:
            raise ArgumentError(
                "a pickle is a program, and any writer to the server could have it run here: give secret=, the same "
                "16 to 64 random bytes to all that use this queue, or trust_the_server=True"
            )
        self._byte = _BYTE[self.serializer] | (_SIGNED if self._secrets else 0)

    @property
    def name(self) -> str:
        """What the queue records, so that a handle with another form is refused when it is opened."""
        return f"{self.serializer}, signed" if self._secrets else self.serializer

    def encode(self, item: object, limit: int, of: bytes, index: int | None = None) -> bytes:
        """Return the entry of an item.

        Args:
            item: to put.
            limit: ``item_size`` of the queue.
            of: the queue, as ``identity`` says it, which the signature includes.
            index: of the item in its batch; None if it is alone.

        Raises:
            ItemTooLargeError: the payload has more bytes than ``limit``.
            SerializationError: the item has no such form.
        """
        payload = shipped.dump(item) if self.serializer == "pickle" else self._encode_plain(item)
        if len(payload) > limit:
            raise ItemTooLargeError(len(payload), limit, index, argument="item_size")
        head = bytes([self._byte])
        if self._secrets:
            return head + self._sign(self._secrets[0], of, payload) + payload
        return head + payload

    def _encode_plain(self, item: object) -> bytes:
        from .._codec import plain_writing  # noqa: PLC0415

        try:
            return plain_writing.write(item)
        except plain_writing.NotPlainError as error:
            raise SerializationError(
                f"the item cannot be sent: {error}; a queue on a server takes None, bool, numbers, str, bytes, list, "
                f"tuple, dict, set, dates, times, Decimal and UUID, unless it has serializer='pickle' and a secret"
            ) from error

    def decode(self, entry: bytes, of: bytes) -> Any:
        """Return the item of an entry.

        Raises:
            DeserializationError: it has another form, its signature is wrong, or it is damaged.
        """
        if not entry or entry[0] != self._byte:
            raise DeserializationError(
                f"the item has another form than this handle reads, which is {self.name!r}; open the queue everywhere "
                f"with the same serializer, and with a secret or without one",
                entry,
            )
        payload = entry[1:]
        if self._secrets:
            signature, payload = payload[:_SIZE], payload[_SIZE:]
            if not any(hmac.compare_digest(signature, self._sign(key, of, payload)) for key in self._secrets):
                raise DeserializationError(
                    "the item's signature is of none of this handle's secrets; if the secret was changed, give "
                    "secret=[new, old] until the old items are gone",
                    entry,
                )
        try:
            return shipped.load(payload) if self.serializer == "pickle" else _read_plain()(payload)
        except Exception as error:
            blame.pass_on(error)
            raise DeserializationError(f"the item cannot be read: {blame.describe(error)}", entry) from error

    def _sign(self, key: bytes, of: bytes, payload: bytes) -> bytes:
        return hashlib.blake2b(bytes([self._byte]) + of + payload, key=key, digest_size=_SIZE).digest()


def identity(prefix: str, uuid: str) -> bytes:
    """Return what a signature says of a queue: name, run_id and uuid, of which a stranger can choose the last alone."""
    name = prefix.encode()
    return len(name).to_bytes(4, "little") + name + bytes.fromhex(uuid)


def _secrets(secret: bytes | Sequence[bytes] | None) -> tuple[bytes, ...]:
    if secret is None:
        return ()
    found = tuple(secret) if isinstance(secret, (list, tuple)) else (secret,)
    for one in found:  # which no message shows
        size = f"{len(one):,} bytes" if isinstance(one, bytes) else f"something of type {type(one).__name__}"
        if not isinstance(one, bytes) or not _SHORTEST <= len(one) <= _LONGEST:
            raise ArgumentError(
                f"a secret must be {_SHORTEST} to {_LONGEST} bytes, not {size}; all that use the queue need the same: "
                f"make one by secrets.token_bytes(32)"
            )
    if not found:
        raise ArgumentError(
            f"a list of secrets must have one of {_SHORTEST} to {_LONGEST} bytes at least; for none pass None"
        )
    return found
