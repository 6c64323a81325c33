"""Planted bugs: each breaks one rule of the protocol, and names the tools that have to find it.

``python/`` and ``native/`` hold one patch for each bug of the engines, with a head that says which rule it breaks and
what must find it. The models have their bugs behind ``-DBUG_...``, and ``models.txt`` lists them under the same heads.
``python -m stress planted`` prints the list; each tool that is named there plants its bugs with ``--plant``, but for
chaos, whose bugs the tests plant.

The place of a hunk is the one place where the file has the lines that the hunk removes; its line numbers do not matter.
If a patch no longer fits, change its lines; or make the change in the source, and the patch by ``git diff
--unified=0``, or with as many lines of context as make its place unique.

A head may name the attack on the design that a bug stands for. Those on creation (R9), fork (R15), unlinking (R18), a
full table (R19) and the end of a process (R20, R21) have tests of whole processes instead; R17 is a sentence of the
guarantees.

bugs     the list, read from the heads
runner   plants one bug after the other, and reports which were found
command  prints the list
"""

from .bugs import BUGS, Bug, Task, find, found_by
from .runner import Outcome, planted_copy, search_each

__all__ = ["BUGS", "Bug", "Outcome", "Task", "find", "found_by", "planted_copy", "search_each"]
