"""What lies on the server, and the scripts that change it. A script is one step: no other command comes in between.

All keys of a queue have the same hash tag, ``{run_id/name}``, so in a cluster they lie in one slot. All but META have
the uuid of the queue in their names: a handle of a queue that was removed never touches its successor of the same name.

========  ======  ==================================================================================================
META      hash    what is fixed at creation; ``closed`` (0; 1; 2: at once); counters; until when getters, putters and
                  joiners wait; the session whose batch waits for room, and until when (``gate``); the server's clock
                  (``time``), and whether leases were moved over a silence of it (``moved``); how many items at the head
                  of WAITING were put back and take no room (``offered``)
WAITING   list    ``id:deliveries:payload``, in order
LEASED    zset    tokens by the time at which the lease ends. A token is ``id:deliveries:session.number:holder``. The
                  request by which an item was taken is in it, so no two leases ever have the same token
PAYLOADS  hash    payloads of what is leased or returned, by id
RETURNED  zset    ``id:deliveries`` by the time from which on it is delivered again
BRIDGE    hash    for each queue from which a bridge brings items: the bridge (``epoch``), its last batch (``sequence``)
                  and the answer to that; and the positions of what was put and may not yet have ended there. It goes
                  a week after its last use
DEAD      hash    ``deliveries:payload`` of dead letters, by id
SESSION   string  the last request of a session that has changed something: ``number since answer``. It goes two hours
                  later; until when was said at ``since``
GETTERS   list    tokens that wake one getter each; so PUTTERS and JOINERS
========  ======  ==================================================================================================

**Once.** A request that changes something has a number. If the answer is lost, the client sends it again with the same
number, and the script, which finds that number in SESSION, repeats the answer and changes nothing. If it finds a
greater one, the request has lingered in the network, and its client does not wait for it any more. A call that ends
with Full or Empty leaves its number there, too: what lingers of it puts and takes nothing later. A client sends no
request again for longer than half of the time for which SESSION stays.

**Get.** A queue without leases delivers an item at most once, and loses none that no process has got: *take* leases it
to the client, which then has its bytes; *done* confirms that, and only what it confirms is returned. A client that
dies, or stays silent, before that leaves a lease, which ends by time. A call that ends in another way, as its task is
cancelled or no answer comes, has its request abandoned: *abandon* finds in SESSION how far it has come, gives back what
was taken, puts back what was confirmed (the client has the bytes), and refuses what lingers. So a delivery that was
none is not counted. What was confirmed is with the client alone until the call returns, and goes with its process.

**Waiting.** A script that finds nothing, or no room, notes in META, in the same step, that a client waits. A script
that changes that leaves a wake token, for which the client waits by BLPOP. No wake is lost, and a token that finds
nothing is harmless. A token that dies with its receiver costs the others one slice.

``capacity`` bounds WAITING for puts, ``leases`` bounds LEASED and RETURNED together for what is taken from WAITING. So
all three have at most ``capacity + leases`` items, also if some were given back behind all others; and as many more as
dead letters were put back.

**Time.** Times are those of the server's clock, in ms. Each script begins by comparing it with that of the last one. If
it was set back, all times move along. If more has passed than a third of a lease (two seconds at least), for which no
living holder is silent, that third counts for leases, and by the rest their times move along: so leases last over jumps
of the clock and over times in which the server was away. That is done once (``moved``) until a lease is taken or
renewed: if calls are rare, the item of a holder that has died comes back with the first call a lease later.
"""

from __future__ import annotations

from typing import Final

from .item_scripts import ITEM_SCRIPTS
from .other_scripts import KEYS, OTHER_SCRIPTS

__all__ = ["KEYS", "SCRIPTS"]

SCRIPTS: Final = {script.name: script for script in (*ITEM_SCRIPTS, *OTHER_SCRIPTS)}
