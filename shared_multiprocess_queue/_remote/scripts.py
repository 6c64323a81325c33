"""What lies on the server, and the scripts that change it. A script is one step: no other command comes in between.

All keys of a queue have the same hash tag, ``{run_id/name}``, so in a cluster they lie in one slot. All but META have
the uuid of the queue in their names: a handle of a queue that was removed never touches its successor of the same name.

========  ======  ==================================================================================================
META      hash    what is fixed at creation; ``closed`` (0; 1; 2: at once); counters; until when getters, putters and
                  joiners wait; the session whose batch waits for room, and until when (``gate``); the server's clock
WAITING   list    ``id:deliveries:payload``, in order
LEASED    zset    tokens by the time at which the lease ends. A token is ``id:deliveries:holder``. The number of
                  deliveries grows with each one, so no two leases have the same token
PAYLOADS  hash    payloads of what is leased or returned, by id
RETURNED  zset    ``id:deliveries`` by the time from which on it is delivered again
BRIDGE    hash    for each queue from which a bridge brings items: how often one began (``epoch``), and the positions of
                  what was put and may not yet have ended there. It goes a week after its last use
DEAD      hash    ``deliveries:payload`` of dead letters, by id
SESSION   string  the last request of a session that has changed something: ``number answer``. It goes an hour later
GETTERS   list    tokens that wake one getter each; so PUTTERS and JOINERS
========  ======  ==================================================================================================

**Once.** A request that changes something has a number. If the answer is lost, the client sends it again with the same
number, and the script, which finds that number in SESSION, repeats the answer and changes nothing. If it finds a
greater one, the request has lingered in the network, and its client does not wait for it any more.

**Waiting.** A script that finds nothing, or no room, notes in META, in the same step, that a client waits. A script
that changes that leaves a wake token, for which the client waits by BLPOP. No wake is lost, and a token that finds
nothing is harmless. A token that dies with its receiver costs the others one slice.

``capacity`` bounds WAITING for puts, ``leases`` bounds LEASED and RETURNED together for what is taken from WAITING. So
all three have at most ``capacity + leases`` items, also if some were given back behind all others.

Times are those of the server's clock, in ms. If that clock was set back, the next take moves all times with it.
"""

from __future__ import annotations

from typing import Final

from .lua import (
    BACK,
    BRIDGE,
    DEAD,
    GETTERS,
    JOINERS,
    LEASED,
    META,
    NOW,
    ONCE,
    PAYLOADS,
    PUTTERS,
    QUIET,
    RETURNED,
    SESSION,
    WAITING,
    WAKE,
    script_of,
)

__all__ = ["KEYS", "SCRIPTS"]

KEYS: Final = (WAITING, LEASED, PAYLOADS, RETURNED, DEAD, GETTERS, PUTTERS, JOINERS)
"""The keys of a queue that stay until it is removed, or expire by themselves, besides META."""


_CREATE = script_of(
    "create",
    (META,),
    # uuid, field, value, ...
    """
local there = redis.call('HGET', KEYS[1], 'uuid')
if there then
  return {there == ARGV[1] and 'ok' or 'exists'}
end
redis.call('HSET', KEYS[1], 'uuid', ARGV[1], 'closed', 0, 'id', 0, 'time', clock(), unpack(ARGV, 2))
return {'ok'}
""",
    NOW,
)

_PUT = script_of(
    "put",
    (META, WAITING, SESSION, GETTERS, PUTTERS),
    # uuid, number, session, whether the client waits, payload, ...
    """
local m = redis.call('HMGET', KEYS[1], 'uuid', 'closed', 'capacity', 'item_size', 'gate', 'gate_until', 'getters',
                     'putters')
if m[1] ~= ARGV[1] then return {'gone'} end
local before = seen(KEYS[3], ARGV[2])
if before then return before end
if m[2] ~= '0' then return {'shut'} end
local count = #ARGV - 4
local size = redis.call('LLEN', KEYS[2])
local gate = m[5] and m[5] ~= '' and waits(m[6]) and m[5]
if size + count > tonumber(m[3]) or (gate and gate ~= ARGV[3]) then
  if ARGV[4] == '1' then
    local now = clock()
    redis.call('HSET', KEYS[1], 'putters', now + 2500)
    if count > 1 and (not gate or gate == ARGV[3]) then
      redis.call('HSET', KEYS[1], 'gate', ARGV[3], 'gate_until', now + 1500)
    end
  else
    redis.call('HINCRBY', KEYS[1], 'full', 1)
    if gate == ARGV[3] then redis.call('HDEL', KEYS[1], 'gate') end
  end
  return {'full'}
end
local first = redis.call('HINCRBY', KEYS[1], 'id', count) - count
for i = 1, count do
  redis.call('RPUSH', KEYS[2], string.format('%.0f:0:', first + i) .. ARGV[4 + i])
end
if gate == ARGV[3] then redis.call('HDEL', KEYS[1], 'gate') end
remember(KEYS[3], ARGV[2], '')
if waits(m[7]) then wake(KEYS[4], count) end
if size + count < tonumber(m[3]) and waits(m[8]) then wake(KEYS[5], 1) end
return {'ok'}
""",
    NOW,
    WAKE,
    ONCE,
)

_BRIDGE_BEGIN = script_of(
    "bridge_begin",
    (META, BRIDGE),
    # uuid
    """
if redis.call('HGET', KEYS[1], 'uuid') ~= ARGV[1] then return {'gone'} end
local epoch = redis.call('HINCRBY', KEYS[2], 'epoch', 1)
redis.call('PEXPIRE', KEYS[2], 604800000)
return {'ok', epoch}
""",
)

_BRING = script_of(
    "bring",
    (META, WAITING, SESSION, GETTERS, BRIDGE),
    # uuid, number, epoch, how many positions are to be forgotten, these, position, payload, ...
    """
local m = redis.call('HMGET', KEYS[1], 'uuid', 'closed', 'capacity', 'getters')
if m[1] ~= ARGV[1] then return {'gone'} end
local epoch = redis.call('HGET', KEYS[5], 'epoch')
if epoch and epoch ~= ARGV[3] then return {'superseded'} end
local before = seen(KEYS[3], ARGV[2])
if before then return before end
if m[2] ~= '0' then return {'shut'} end
local forgotten = tonumber(ARGV[4])
for i = 5, 4 + forgotten do redis.call('HDEL', KEYS[5], ARGV[i]) end
local new = {}
for i = 5 + forgotten, #ARGV, 2 do
  if redis.call('HEXISTS', KEYS[5], ARGV[i]) == 0 then new[#new + 1] = i end
end
if redis.call('LLEN', KEYS[2]) + #new > tonumber(m[3]) then return {'full'} end
local first = redis.call('HINCRBY', KEYS[1], 'id', #new) - #new
for number, i in ipairs(new) do
  redis.call('HSET', KEYS[5], ARGV[i], 1)
  redis.call('RPUSH', KEYS[2], string.format('%.0f:0:', first + number) .. ARGV[i + 1])
end
redis.call('HSET', KEYS[5], 'epoch', ARGV[3])
redis.call('PEXPIRE', KEYS[5], 604800000)
local brought_again = string.format('%.0f', (#ARGV - 4 - forgotten) / 2 - #new)
remember(KEYS[3], ARGV[2], brought_again)
if waits(m[4]) then wake(KEYS[4], #new) end
return {'ok', brought_again}
""",
    NOW,
    WAKE,
    ONCE,
)

_TAKE = script_of(
    "take",
    (META, WAITING, LEASED, PAYLOADS, RETURNED, DEAD, SESSION, GETTERS, PUTTERS, JOINERS),
    # uuid, number, holder, whether the client waits, most items, leases that the client has
    """
local m = redis.call('HMGET', KEYS[1], 'uuid', 'closed', 'leases', 'lease', 'time', 'putters', 'getters')
if m[1] ~= ARGV[1] then return {'gone'} end
local last = redis.call('GET', KEYS[7])
if last then
  local n, answer = string.match(last, '^(%d+) (.*)$')
  if tonumber(n) > tonumber(ARGV[2]) then return {'late'} end
  if tonumber(n) == tonumber(ARGV[2]) then
    local found = {'ok'}
    for token in string.gmatch(answer, '%S+') do
      if redis.call('ZSCORE', KEYS[3], token) then
        found[#found + 1] = token
        found[#found + 1] = redis.call('HGET', KEYS[4], string.match(token, '^%d+'))
      end
    end
    return found
  end
end
local now = clock()
local back = tonumber(m[5]) - now
if back > 500 then
  for _, key in ipairs({KEYS[3], KEYS[5]}) do
    for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do redis.call('ZINCRBY', key, -back, member) end
  end
end
if math.abs(back) > 500 then redis.call('HSET', KEYS[1], 'time', now) end
local expired = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 1000)
for _, token in ipairs(expired) do
  local id, deliveries = string.match(token, '^(%d+):(%d+)')
  redis.call('ZREM', KEYS[3], token)
  give_back(KEYS[1], KEYS[2], KEYS[4], KEYS[5], KEYS[6], id, deliveries, now, false)
end
if #expired > 0 then quiet(KEYS[2], KEYS[5], KEYS[3], KEYS[1], KEYS[10]) end
if m[2] == '2' then return {'shut'} end
local want, leases = tonumber(ARGV[5]), tonumber(m[3])
local found, tokens, again, bytes = {'ok'}, {}, 0, 0
local function hand_out(id, deliveries, payload)
  bytes = bytes + #payload
  local token = id .. ':' .. string.format('%.0f', deliveries + 1) .. ':' .. ARGV[3]
  redis.call('ZADD', KEYS[3], now + m[4], token)
  tokens[#tokens + 1] = token
  found[#found + 1] = token
  found[#found + 1] = payload
  if tonumber(deliveries) > 0 then again = again + 1 end
end
if redis.call('ZCARD', KEYS[5]) > 0 then
  local due = redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', now, 'LIMIT', 0, 1000)
  table.sort(due, function(a, b) return tonumber(string.match(a, '^%d+')) < tonumber(string.match(b, '^%d+')) end)
  for i = 1, math.min(want, #due) do
    if bytes > 16777216 then break end
    local id, deliveries = string.match(due[i], '^(%d+):(%d+)')
    redis.call('ZREM', KEYS[5], due[i])
    hand_out(id, deliveries, redis.call('HGET', KEYS[4], id))
  end
end
local is_held_up = false
if leases > 0 then
  local free = leases - redis.call('ZCARD', KEYS[3]) - redis.call('ZCARD', KEYS[5])
  is_held_up = free <= 0
  want = math.min(want, #tokens + free)
end
while #tokens < want and bytes <= 16777216 do
  local entry = redis.call('LPOP', KEYS[2])
  if not entry then break end
  local id, deliveries, at = string.match(entry, '^(%d+):(%d+):()')
  local payload = string.sub(entry, at)
  redis.call('HSET', KEYS[4], id, payload)
  hand_out(id, deliveries, payload)
end
local left = redis.call('LLEN', KEYS[2])
if #tokens > 0 then
  if again > 0 then redis.call('HINCRBY', KEYS[1], 'redelivered', again) end
  redis.call('SET', KEYS[7], ARGV[2] .. ' ' .. table.concat(tokens, ' '), 'PX', 3600000)
  if waits(m[6]) then wake(KEYS[9], #tokens) end
  if left > 0 and waits(m[7]) then wake(KEYS[8], 1) end
  return found
end
local delayed, leased = redis.call('ZCARD', KEYS[5]), redis.call('ZCARD', KEYS[3])
if m[2] == '1' and left + delayed == 0 and leased <= tonumber(ARGV[6]) then return {'shut'} end
local next_time = now + 1000
for _, key in ipairs({KEYS[3], KEYS[5]}) do
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  if first then next_time = math.min(next_time, tonumber(first)) end
end
if is_held_up and left > 0 then redis.call('HINCRBY', KEYS[1], 'lease_waits', 1) end
if ARGV[4] == '1' then
  redis.call('HSET', KEYS[1], 'getters', now + 2500)
else
  redis.call('HINCRBY', KEYS[1], 'empty', 1)
end
return {'none', math.max(next_time - now, 1)}
""",
    NOW,
    WAKE,
    QUIET,
    BACK,
    flags="allow-oom",
)

_DONE = script_of(
    "done",
    (META, WAITING, LEASED, PAYLOADS, RETURNED, SESSION, GETTERS, JOINERS),
    # uuid, number, token, ...
    """
local m = redis.call('HMGET', KEYS[1], 'uuid', 'closed', 'leases', 'getters')
if m[1] ~= ARGV[1] then return {'gone'} end
local before = seen(KEYS[6], ARGV[2])
if before then return before end
local bits, count = '', 0
for i = 3, #ARGV do
  local is_mine = redis.call('ZREM', KEYS[3], ARGV[i])
  bits = bits .. is_mine
  if is_mine == 1 then
    count = count + 1
    redis.call('HDEL', KEYS[4], string.match(ARGV[i], '^%d+'))
  end
end
if count > 0 then
  redis.call('HINCRBY', KEYS[1], 'got', count)
  quiet(KEYS[2], KEYS[5], KEYS[3], KEYS[1], KEYS[8])
  if (m[3] ~= '0' or m[2] ~= '0') and waits(m[4]) then wake(KEYS[7], m[2] == '0' and count or 32) end
end
remember(KEYS[6], ARGV[2], bits)
return {'ok', bits}
""",
    NOW,
    WAKE,
    ONCE,
    QUIET,
    flags="allow-oom",
)

_RELEASE = script_of(
    "release",
    (META, WAITING, LEASED, PAYLOADS, RETURNED, DEAD, SESSION, GETTERS, JOINERS),
    # uuid, number, delay in ms, whether it goes last, token, ...
    """
local m = redis.call('HMGET', KEYS[1], 'uuid', 'getters')
if m[1] ~= ARGV[1] then return {'gone'} end
local before = seen(KEYS[7], ARGV[2])
if before then return before end
local bits, count, due = '', 0, clock() + ARGV[3]
for i = 5, #ARGV do
  local is_mine = redis.call('ZREM', KEYS[3], ARGV[i])
  bits = bits .. is_mine
  if is_mine == 1 then
    count = count + 1
    local id, deliveries = string.match(ARGV[i], '^(%d+):(%d+)')
    give_back(KEYS[1], KEYS[2], KEYS[4], KEYS[5], KEYS[6], id, deliveries, due, ARGV[4] == '1')
  end
end
if count > 0 then
  quiet(KEYS[2], KEYS[5], KEYS[3], KEYS[1], KEYS[9])
  if waits(m[2]) then wake(KEYS[8], 32) end
end
remember(KEYS[7], ARGV[2], bits)
return {'ok', bits}
""",
    NOW,
    WAKE,
    ONCE,
    QUIET,
    BACK,
    flags="allow-oom",
)

_KEEP = script_of(
    "keep",
    (META, LEASED),
    # uuid, token, ...
    """
local m = redis.call('HMGET', KEYS[1], 'uuid', 'lease')
if m[1] ~= ARGV[1] then return {'gone'} end
local bits, ends = '', clock() + m[2]
for i = 2, #ARGV do
  if redis.call('ZSCORE', KEYS[2], ARGV[i]) then
    redis.call('ZADD', KEYS[2], ends, ARGV[i])
    bits = bits .. '1'
  else
    bits = bits .. '0'
  end
end
return {'ok', bits}
""",
    NOW,
    flags="allow-oom",
)

_SHUTDOWN = script_of(
    "shutdown",
    (META, WAITING, LEASED, PAYLOADS, RETURNED, GETTERS, PUTTERS, JOINERS),
    # uuid, whether what is there is dropped
    """
local closed = redis.call('HMGET', KEYS[1], 'uuid', 'closed')
if closed[1] ~= ARGV[1] then return {'gone'} end
if ARGV[2] == '1' then
  redis.call('HSET', KEYS[1], 'closed', 2)
  for _, member in ipairs(redis.call('ZRANGE', KEYS[5], 0, -1)) do
    redis.call('HDEL', KEYS[4], string.match(member, '^%d+'))
  end
  redis.call('UNLINK', KEYS[2], KEYS[5])
  quiet(KEYS[2], KEYS[5], KEYS[3], KEYS[1], KEYS[8])
elseif closed[2] == '0' then
  redis.call('HSET', KEYS[1], 'closed', 1)
end
wake(KEYS[6], 32)
wake(KEYS[7], 32)
return {'ok'}
""",
    NOW,
    WAKE,
    QUIET,
    flags="allow-oom",
)

_JOIN = script_of(
    "join",
    (META, WAITING, LEASED, RETURNED),
    # uuid, whether the client waits
    """
local m = redis.call('HMGET', KEYS[1], 'uuid', 'idle')
if m[1] ~= ARGV[1] then return {'gone'} end
local left = redis.call('LLEN', KEYS[2]) + redis.call('ZCARD', KEYS[4]) + redis.call('ZCARD', KEYS[3])
if left > 0 and ARGV[2] == '1' then redis.call('HSET', KEYS[1], 'joiners', clock() + 2500) end
return {'ok', left, m[2] or '0'}
""",
    NOW,
    flags="allow-oom",
)

_LOOK = script_of(
    "look",
    (META, WAITING, LEASED, RETURNED, DEAD),
    # uuid
    """
if redis.call('HGET', KEYS[1], 'uuid') ~= ARGV[1] then return {'gone'} end
return {'ok', redis.call('LLEN', KEYS[2]), redis.call('ZCARD', KEYS[4]), redis.call('ZCARD', KEYS[3]),
        redis.call('HLEN', KEYS[5]), redis.call('HGETALL', KEYS[1]),
        redis.call('ZRANGE', KEYS[3], 0, 999, 'WITHSCORES'), clock()}
""",
    NOW,
    flags="no-writes",
)

_LETTERS = script_of(
    "letters",
    (META, DEAD),
    # uuid
    """
if redis.call('HGET', KEYS[1], 'uuid') ~= ARGV[1] then return {'gone'} end
return {'ok', redis.call('HGETALL', KEYS[2])}
""",
    flags="no-writes",
)

_END_LETTER = script_of(
    "end_letter",
    (META, PAYLOADS, RETURNED, DEAD, SESSION, GETTERS),
    # uuid, number, id, whether it goes back into the queue
    """
local m = redis.call('HMGET', KEYS[1], 'uuid', 'getters', 'closed')
if m[1] ~= ARGV[1] then return {'gone'} end
local before = seen(KEYS[5], ARGV[2])
if before then return before end
local entry = redis.call('HGET', KEYS[4], ARGV[3])
local bits = '0'
if entry then
  bits = '1'
  redis.call('HDEL', KEYS[4], ARGV[3])
  if ARGV[4] == '1' and m[3] ~= '2' then
    redis.call('HSET', KEYS[2], ARGV[3], string.sub(entry, string.find(entry, ':', 1, true) + 1))
    redis.call('ZADD', KEYS[3], clock(), ARGV[3] .. ':0')
    if waits(m[2]) then wake(KEYS[6], 1) end
  end
end
remember(KEYS[5], ARGV[2], bits)
return {'ok', bits}
""",
    NOW,
    WAKE,
    ONCE,
    flags="allow-oom",
)

_UNLINK = script_of(
    "unlink",
    (META, *KEYS),
    # uuid
    """
if redis.call('HGET', KEYS[1], 'uuid') ~= ARGV[1] then return {'gone'} end
redis.call('UNLINK', unpack(KEYS))
return {'ok'}
""",
    flags="allow-oom",
)

SCRIPTS: Final = {
    script.name: script
    for script in (
        _CREATE,
        _PUT,
        _BRIDGE_BEGIN,
        _BRING,
        _TAKE,
        _DONE,
        _RELEASE,
        _KEEP,
        _SHUTDOWN,
        _JOIN,
        _LOOK,
        _LETTERS,
        _END_LETTER,
        _UNLINK,
    )
}
