"""The scripts besides those of ``item_scripts.py``: life of a queue, bridges, looks, dead letters."""

from __future__ import annotations

from typing import Final

from .lua import (
    BEGIN,
    BRIDGE,
    DEAD,
    GETTERS,
    JOINERS,
    LOOKING,
    ONCE,
    PAYLOADS,
    PUTTERS,
    QUIET,
    SESSION,
    WAITING,
    WAKE,
    script_of,
)

__all__ = ["KEYS", "OTHER_SCRIPTS"]

KEYS: Final = (WAITING, PAYLOADS, DEAD, GETTERS, PUTTERS, JOINERS)
"""The keys of a queue that stay until it is removed, or expire by themselves, besides COMMON."""

_CREATE = script_of(
    "create",
    (),
    # uuid, field, value, ...
    """
local there = redis.call('HGET', KEYS[1], 'uuid')
if there then return {there == ARGV[1] and 'ok' or 'exists'} end
redis.call('HSET', KEYS[1], 'uuid', ARGV[1], 'closed', 0, 'id', 0, 'time', time(), unpack(ARGV, 2))
-- A hash without a long value is a list, in which each field is searched from the beginning.
redis.call('HSET', KEYS[1], 'table', string.rep('.', 65))
return {'ok'}
""",
    BEGIN,
)

_BRIDGE_BEGIN = script_of(
    "bridge_begin",
    (),
    # uuid
    """
if not begin() then return {'gone'} end
return {'ok', redis.call('HINCRBY', KEYS[1], 'bridges', 1)}
""",
    BEGIN,
)

_BRING = script_of(
    "bring",
    (WAITING, GETTERS, BRIDGE),
    # uuid, epoch, sequence, how many positions are to be forgotten, these, position, payload, ...
    """
local now, closed, capacity, offered, getters = begin('closed', 'capacity', 'offered', 'getters')
if not now then return {'gone'} end
local last = redis.call('HMGET', KEYS[6], 'epoch', 'sequence', 'answer')
local epoch, sequence = tonumber(last[1] or 0), tonumber(last[2] or 0)
if epoch > tonumber(ARGV[2]) then return {'superseded'} end
if epoch == tonumber(ARGV[2]) then
  if sequence == tonumber(ARGV[3]) then return {'ok', last[3]} end
  if sequence > tonumber(ARGV[3]) then return {'late'} end
end
if closed ~= '0' then return {'shut'} end
local forgotten = tonumber(ARGV[4])
for i = 5, 4 + forgotten do redis.call('HDEL', KEYS[6], ARGV[i]) end
local new = {}
for i = 5 + forgotten, #ARGV, 2 do
  if redis.call('HEXISTS', KEYS[6], ARGV[i]) == 0 then new[#new + 1] = i end
end
if #new > 0 and redis.call('LLEN', KEYS[4]) + #new > capacity + (offered or 0) then return {'full'} end
local first = redis.call('HINCRBY', KEYS[1], 'id', #new) - #new
for number, i in ipairs(new) do
  redis.call('HSET', KEYS[6], ARGV[i], 1)
  redis.call('RPUSH', KEYS[4], string.format('%d:0:', first + number) .. ARGV[i + 1])
end
local brought_again = string.format('%d', (#ARGV - 4 - forgotten) / 2 - #new)
redis.call('HSET', KEYS[6], 'epoch', ARGV[2], 'sequence', ARGV[3], 'answer', brought_again)
redis.call('PEXPIRE', KEYS[6], 604800000)
if waits(getters, now) then wake(KEYS[5], #new) end
return {'ok', brought_again}
""",
    BEGIN,
    WAKE,
)

_SHUTDOWN = script_of(
    "shutdown",
    (WAITING, PAYLOADS, GETTERS, PUTTERS, JOINERS),
    # uuid, whether what is there is dropped
    """
local now, closed = begin('closed')
if not now then return {'gone'} end
if ARGV[2] == '1' then
  redis.call('HSET', KEYS[1], 'closed', 2, 'offered', 0)
  for _, member in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
    redis.call('HDEL', KEYS[5], string.match(member, '^%d+'))
  end
  redis.call('UNLINK', KEYS[4], KEYS[3])
  quiet(KEYS[4], KEYS[8], now)
elseif closed == '0' then
  redis.call('HSET', KEYS[1], 'closed', 1)
end
wake(KEYS[6], 32)
wake(KEYS[7], 32)
return {'ok'}
""",
    BEGIN,
    WAKE,
    QUIET,
    flags="allow-oom",
)

_JOIN = script_of(
    "join",
    (WAITING,),
    # uuid, whether the client waits
    """
local now, idle = begin('idle')
if not now then return {'gone'} end
local left = redis.call('LLEN', KEYS[4]) + redis.call('ZCARD', KEYS[3]) + redis.call('ZCARD', KEYS[2])
if left > 0 and ARGV[2] == '1' then redis.call('HSET', KEYS[1], 'joiners', now + 2500) end
return {'ok', left, idle or '0'}
""",
    BEGIN,
    flags="allow-oom",
)

_LOOK = script_of(
    "look",
    (WAITING, DEAD),
    # uuid
    """
if is_other() then return {'gone'} end
return {'ok', redis.call('LLEN', KEYS[4]), redis.call('ZCARD', KEYS[3]), redis.call('ZCARD', KEYS[2]),
        redis.call('HLEN', KEYS[5]), redis.call('HGETALL', KEYS[1]),
        redis.call('ZRANGE', KEYS[2], 0, 999, 'WITHSCORES'), time()}
""",
    BEGIN,
    LOOKING,
    flags="no-writes",
)

_LETTERS = script_of(
    "letters",
    (DEAD,),
    # uuid
    """
if is_other() then return {'gone'} end
local sizes = {}
for i, id in ipairs(redis.call('HKEYS', KEYS[4])) do
  sizes[2 * i - 1] = tonumber(id)
  sizes[2 * i] = redis.call('HSTRLEN', KEYS[4], id)
end
return {'ok', sizes}
""",
    LOOKING,
    flags="no-writes",
)

_LETTERS_OF = script_of(
    "letters_of",
    (DEAD,),
    # uuid, id, ...
    """
if is_other() then return {'gone'} end
return {'ok', redis.call('HMGET', KEYS[4], unpack(ARGV, 2))}
""",
    LOOKING,
    flags="no-writes",
)

_END_LETTER = script_of(
    "end_letter",
    (WAITING, DEAD, SESSION, GETTERS),
    # uuid, number, id, whether it goes back into the queue
    """
local now, closed, getters, offered = begin('closed', 'getters', 'offered')
if not now then return {'gone'} end
local before = seen(KEYS[6], ARGV[2])
if before then return before end
if ARGV[4] == '1' and closed ~= '0' then return {'shut'} end
local entry = redis.call('HGET', KEYS[5], ARGV[3])
local bits = '0'
if entry then
  bits = '1'
  redis.call('HDEL', KEYS[5], ARGV[3])
  if ARGV[4] == '1' then
    -- At the head, behind those that were put back before it. These take no room from puts.
    local item = ARGV[3] .. ':0:' .. string.sub(entry, string.find(entry, ':', 1, true) + 1)
    offered = tonumber(offered or 0)
    if offered > 0 then
      redis.call('LINSERT', KEYS[4], 'AFTER', redis.call('LINDEX', KEYS[4], offered - 1), item)
    else
      redis.call('LPUSH', KEYS[4], item)
    end
    redis.call('HINCRBY', KEYS[1], 'offered', 1)
    if waits(getters, now) then wake(KEYS[7], 1) end
  end
end
remember(KEYS[6], ARGV[2], bits)
return {'ok', bits}
""",
    BEGIN,
    WAKE,
    ONCE,
    flags="allow-oom",
)

_UNLINK = script_of(
    "unlink",
    KEYS,
    # uuid
    """
if is_other() then return {'gone'} end
redis.call('UNLINK', unpack(KEYS))
return {'ok'}
""",
    LOOKING,
    flags="allow-oom",
)

OTHER_SCRIPTS: Final = (
    _CREATE,
    _BRIDGE_BEGIN,
    _BRING,
    _SHUTDOWN,
    _JOIN,
    _LOOK,
    _LETTERS,
    _LETTERS_OF,
    _END_LETTER,
    _UNLINK,
)
