"""How a payload is written: the tags, which stand in the slots, so a number keeps its meaning for ever."""

from __future__ import annotations

from typing import Final

PICKLE: Final = 0  # a pickle stream
BYTES: Final = 1
STR: Final = 2  # utf-8, lone surrogates included
# A pickle stream that names objects of __main__, then the names that stand bare in it or the definitions that travel
# along, and then the codec's trailer. There are never both. If there are neither, the names in the stream are of
# objects without a definition, and only a process of the same program can read it.
MAIN: Final = 3
NONE: Final = 4  # the payloads of this and the next two are empty
FALSE: Final = 5
TRUE: Final = 6
INT: Final = 7  # of 64 bits; INT and FLOAT are in the byte order of the machine, because a queue stays on one machine
FLOAT: Final = 8
OBJECTS: Final = 9  # see plain.py
BUFFERS: Final = 10  # see buffers.py
DEFLATED: Final = 11  # see deflate.py; 255 is reserved
PLACED: Final = 12  # bytes that were written in place, see in_place.py: as BYTES or OWN, behind what has no meaning
OWN: Final = 13  # what the program's own dumps has returned; see own_format.py

PADDING: Final = 48  # bytes of a payload of the tag PLACED before those of the item, which so begin at a cache line

CONSTANTS: Final = {NONE: None, FALSE: False, TRUE: True}
