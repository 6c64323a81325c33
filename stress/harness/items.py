"""Items that can tell when they were damaged: their producer, a serial number, random bytes, a checksum over all."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from random import Random
from struct import Struct

from .history import SERIAL_BITS, TORN, item_id

LARGEST = 512
"""No item of this module takes more bytes once serialised, whatever its form."""

_MOST_PAYLOAD = 150
_HEAD = Struct("<HQ")
_CHECKSUM = Struct("<I")


@dataclass(frozen=True, slots=True)
class Parcel:
    """An item in the form of an object."""

    producer: int
    serial: int
    payload: bytes
    checksum: int


def _checksum(producer: int, serial: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(_HEAD.pack(producer, serial)))


def make(rng: Random, producer: int, serial: int) -> object:
    """Return an item of random length in a random form, so that every way of serialising is used."""
    payload = rng.randbytes(rng.randrange(_MOST_PAYLOAD))
    checksum = _checksum(producer, serial, payload)
    form = rng.randrange(5)
    if form == 0:
        return producer, serial, payload, checksum
    if form == 1:
        return {"producer": producer, "serial": serial, "payload": payload, "checksum": checksum}
    if form == 2:
        return Parcel(producer, serial, payload, checksum)
    flat = _HEAD.pack(producer, serial) + payload + _CHECKSUM.pack(checksum)
    return flat if form == 3 else flat.decode("latin-1")


def make_quickly(producer: int, serial: int) -> bytes:
    """Return an item that takes hardly any time to make, so that its producer is nearly always in the queue's code."""
    return _HEAD.pack(producer, serial) + _CHECKSUM.pack(_checksum(producer, serial, b""))


def identify(item: object) -> int:
    """Return the id of an item; with the bit ``TORN`` set if it is not as it was made."""
    try:
        producer, serial, payload, checksum = _fields(item)
    except Exception:  # whatever a damaged item does, it is torn
        return TORN
    if checksum != _checksum(producer, serial, payload) or serial >> SERIAL_BITS:
        return TORN
    return item_id(producer, serial)


def _fields(item: object) -> tuple[int, int, bytes, int]:
    if isinstance(item, tuple):
        producer, serial, payload, checksum = item
        return producer, serial, payload, checksum
    if isinstance(item, dict):
        return item["producer"], item["serial"], item["payload"], item["checksum"]
    if isinstance(item, Parcel):
        return item.producer, item.serial, item.payload, item.checksum
    flat = item.encode("latin-1") if isinstance(item, str) else item
    if not isinstance(flat, bytes):
        raise TypeError(f"no item has the type {type(item).__name__}")
    producer, serial = _HEAD.unpack_from(flat)
    (checksum,) = _CHECKSUM.unpack_from(flat, len(flat) - _CHECKSUM.size)
    return producer, serial, flat[_HEAD.size : -_CHECKSUM.size], checksum
