"""The scripts through which items go; ``scripts.py`` says what lies where."""

from __future__ import annotations

from typing import Final

from .lua import (
    BACK,
    BEGIN,
    DEAD,
    GETTERS,
    JOINERS,
    ONCE,
    PAYLOADS,
    PUTTERS,
    QUIET,
    SESSION,
    WAITING,
    WAKE,
    script_of,
)

__all__ = ["ITEM_SCRIPTS"]

_PUT = script_of(
    "put",
    (WAITING, SESSION, GETTERS, PUTTERS),
    # uuid, number, session, whether the client waits, payload, ...
    """
local now, closed, capacity, offered, gate, gate_until, getters, putters =
  begin('closed', 'capacity', 'offered', 'gate', 'gate_until', 'getters', 'putters')
if not now then return {'gone'} end
local before = seen(KEYS[5], ARGV[2])
if before then return before end
if closed ~= '0' then return {'shut'} end
local count = #ARGV - 4
local room = capacity + (offered or 0) - redis.call('LLEN', KEYS[4]) - count
gate = gate and gate ~= '' and waits(gate_until, now) and gate
if room < 0 or (gate and gate ~= ARGV[3]) then
  if ARGV[4] == '1' then
    redis.call('HSET', KEYS[1], 'putters', now + 2500)
    if count > 1 and (not gate or gate == ARGV[3]) then
      redis.call('HSET', KEYS[1], 'gate', ARGV[3], 'gate_until', now + 1500)
    end
  else
    redis.call('HINCRBY', KEYS[1], 'full', 1)
    if gate == ARGV[3] then redis.call('HDEL', KEYS[1], 'gate') end
    remember(KEYS[5], ARGV[2], 'full')
  end
  return {'full'}
end
local first = redis.call('HINCRBY', KEYS[1], 'id', count) - count
for i = 1, count do
  redis.call('RPUSH', KEYS[4], string.format('%d:0:', first + i) .. ARGV[4 + i])
end
if gate == ARGV[3] then redis.call('HDEL', KEYS[1], 'gate') end
remember(KEYS[5], ARGV[2], '')
if waits(getters, now) then wake(KEYS[6], count) end
if room > 0 and waits(putters, now) then wake(KEYS[7], 1) end
return {'ok'}
""",
    BEGIN,
    WAKE,
    ONCE,
)

_TAKE = script_of(
    "take",
    (WAITING, PAYLOADS, DEAD, SESSION, GETTERS, PUTTERS, JOINERS),
    # uuid, number, the rest of each token, whether the client waits, most items, leases that the client has
    """
local now, closed, leases, lease, putters, getters, offered, item_size =
  begin('closed', 'leases', 'lease', 'putters', 'getters', 'offered', 'item_size')
if not now then return {'gone'} end
local before = seen(KEYS[7], ARGV[2])
if before and before[1] == 'late' then return before end
if before then
  local found = {'ok'}
  for token in string.gmatch(before[2], '%S+') do
    if redis.call('ZSCORE', KEYS[2], token) then
      found[#found + 1] = token
      found[#found + 1] = redis.call('HGET', KEYS[5], string.match(token, '^%d+'))
    end
  end
  return found
end
local expired = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 1000)
for _, token in ipairs(expired) do
  local id, deliveries = string.match(token, '^(%d+):(%d+)')
  redis.call('ZREM', KEYS[2], token)
  give_back(KEYS[4], KEYS[5], KEYS[6], id, deliveries, now, false)
end
if #expired > 0 then quiet(KEYS[4], KEYS[10], now) end
if closed == '2' then return {'shut'} end
local want, found, tokens, again, bytes = tonumber(ARGV[5]), {'ok'}, {}, 0, 0
local ends, kept, due = {}, {}, string.format('%d', now + lease)
local function hand_out(id, deliveries, payload)
  bytes = bytes + #payload
  local delivery = '1'
  if deliveries ~= '0' then
    delivery = string.format('%d', deliveries + 1)
    again = again + 1
  end
  local token, count = id .. ':' .. delivery .. ':' .. ARGV[3], #tokens + 1
  tokens[count] = token
  ends[2 * count - 1] = due
  ends[2 * count] = token
  found[2 * count] = token
  found[2 * count + 1] = payload
end
if redis.call('ZCARD', KEYS[3]) > 0 then
  local back = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 1000)
  table.sort(back, function(a, b) return tonumber(string.match(a, '^%d+')) < tonumber(string.match(b, '^%d+')) end)
  for i = 1, math.min(want, #back) do
    if bytes > 16777216 then break end
    local id, deliveries = string.match(back[i], '^(%d+):(%d+)')
    redis.call('ZREM', KEYS[3], back[i])
    hand_out(id, deliveries, redis.call('HGET', KEYS[5], id))
  end
end
local is_held_up = false
if leases ~= '0' then
  local free = leases - redis.call('ZCARD', KEYS[2]) - redis.call('ZCARD', KEYS[3])
  is_held_up = free <= 0
  want = math.min(want, #tokens + free)
end
local from_waiting = 0
while #tokens < want and bytes <= 16777216 do
  local count = math.min(want - #tokens, math.max(math.floor((16777216 - bytes) / item_size), 1))
  local entries = redis.call('LPOP', KEYS[4], count) or {}
  for i, entry in ipairs(entries) do
    local id, deliveries, at = string.match(entry, '^(%d+):(%d+):()')
    local payload = string.sub(entry, at)
    kept[2 * i - 1] = id
    kept[2 * i] = payload
    hand_out(id, deliveries, payload)
  end
  if #entries > 0 then redis.call('HSET', KEYS[5], unpack(kept, 1, 2 * #entries)) end
  from_waiting = from_waiting + #entries
  if #entries < count then break end
end
if #tokens > 0 then redis.call('ZADD', KEYS[2], unpack(ends)) end
if offered and from_waiting > 0 and offered ~= '0' then
  redis.call('HSET', KEYS[1], 'offered', math.max(offered - from_waiting, 0))
end
if #tokens > 0 then
  note_holder()
  if again > 0 then redis.call('HINCRBY', KEYS[1], 'redelivered', again) end
  remember(KEYS[7], ARGV[2], table.concat(tokens, ' '))
  if waits(putters, now) then wake(KEYS[9], from_waiting) end
  if waits(getters, now) and redis.call('LLEN', KEYS[4]) > 0 then wake(KEYS[8], 1) end
  return found
end
local left, delayed, leased = redis.call('LLEN', KEYS[4]), redis.call('ZCARD', KEYS[3]), redis.call('ZCARD', KEYS[2])
if closed == '1' and left + delayed == 0 and leased <= tonumber(ARGV[6]) then return {'shut'} end
local next_time = now + 1000
for _, key in ipairs({KEYS[2], KEYS[3]}) do
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  if first then next_time = math.min(next_time, tonumber(first)) end
end
if is_held_up and left > 0 then redis.call('HINCRBY', KEYS[1], 'lease_waits', 1) end
if ARGV[4] == '1' then
  redis.call('HSET', KEYS[1], 'getters', now + 2500)
else
  redis.call('HINCRBY', KEYS[1], 'empty', 1)
  remember(KEYS[7], ARGV[2], '')
end
return {'none', math.max(next_time - now, 1)}
""",
    BEGIN,
    WAKE,
    ONCE,
    QUIET,
    BACK,
    flags="allow-oom",
)

_DONE = script_of(
    "done",
    (WAITING, PAYLOADS, SESSION, GETTERS, JOINERS),
    # uuid, number, token, ...
    """
local now, closed, leases, getters = begin('closed', 'leases', 'getters')
if not now then return {'gone'} end
local before = seen(KEYS[6], ARGV[2])
if before then return before end
local bits, mine, ids = {}, {}, {}
for i, ends in ipairs(redis.call('ZMSCORE', KEYS[2], unpack(ARGV, 3))) do
  bits[i] = ends and 1 or 0
  if ends then
    mine[#mine + 1] = ARGV[i + 2]
    ids[#ids + 1] = string.match(ARGV[i + 2], '^%d+')
  end
end
if #ids > 0 then
  redis.call('ZREM', KEYS[2], unpack(mine))
  redis.call('HDEL', KEYS[5], unpack(ids))
  redis.call('HINCRBY', KEYS[1], 'got', #ids)
  quiet(KEYS[4], KEYS[8], now)
  if (leases ~= '0' or closed ~= '0') and waits(getters, now) then wake(KEYS[7], closed == '0' and #ids or 32) end
end
bits = table.concat(bits)
remember(KEYS[6], ARGV[2], bits)
return {'ok', bits}
""",
    BEGIN,
    WAKE,
    ONCE,
    QUIET,
    flags="allow-oom",
)

_RELEASE = script_of(
    "release",
    (WAITING, PAYLOADS, DEAD, SESSION, GETTERS, JOINERS),
    # uuid, number, delay in ms, whether it goes last, whether it was delivered, token, ...
    """
local now, getters = begin('getters')
if not now then return {'gone'} end
local before = seen(KEYS[7], ARGV[2])
if before then return before end
local bits, count, due = '', 0, now + ARGV[3]
for i = 6, #ARGV do
  local is_mine = redis.call('ZREM', KEYS[2], ARGV[i])
  bits = bits .. is_mine
  if is_mine == 1 then
    count = count + 1
    local id, deliveries = string.match(ARGV[i], '^(%d+):(%d+)')
    if ARGV[5] == '0' then deliveries = string.format('%d', deliveries - 1) end
    give_back(KEYS[4], KEYS[5], KEYS[6], id, deliveries, due, ARGV[4] == '1')
  end
end
if count > 0 then
  quiet(KEYS[4], KEYS[9], now)
  if waits(getters, now) then wake(KEYS[8], 32) end
end
remember(KEYS[7], ARGV[2], bits)
return {'ok', bits}
""",
    BEGIN,
    WAKE,
    ONCE,
    QUIET,
    BACK,
    flags="allow-oom",
)

_ABANDON = script_of(
    "abandon",
    (WAITING, PAYLOADS, DEAD, SESSION, GETTERS, JOINERS),
    # uuid, number, that of the take, that of its confirmation or 0, what was to be confirmed: token, payload, ...
    """
local now, closed, getters = begin('closed', 'getters')
if not now then return {'gone'} end
local before = seen(KEYS[7], ARGV[2])
if before then return before end
local last, count = redis.call('GET', KEYS[7]), 0
local function undo(token)
  local id, deliveries = string.match(token, '^(%d+):(%d+)')
  count = count + 1
  give_back(KEYS[4], KEYS[5], KEYS[6], id, string.format('%d', deliveries - 1), now, false)
end
if last then
  local number, answer = string.match(last, '^(%d+) %d+ (.*)$')
  if number == ARGV[3] then
    for token in string.gmatch(answer, '%S+') do
      if redis.call('ZREM', KEYS[2], token) == 1 then undo(token) end
    end
  elseif number == ARGV[4] then
    for i = 1, #answer do
      if string.sub(answer, i, i) == '1' then
        redis.call('HSET', KEYS[5], string.match(ARGV[3 + 2 * i], '^%d+'), ARGV[4 + 2 * i])
        redis.call('HINCRBY', KEYS[1], 'got', -1)
        undo(ARGV[3 + 2 * i])
      end
    end
  end
end
if count > 0 then
  quiet(KEYS[4], KEYS[9], now)
  if waits(getters, now) then wake(KEYS[8], count) end
end
remember(KEYS[7], ARGV[2], '')
return {'ok', ''}
""",
    BEGIN,
    WAKE,
    ONCE,
    QUIET,
    BACK,
    flags="allow-oom",
)

_KEEP = script_of(
    "keep",
    (),
    # uuid, token, ...
    """
local now, lease = begin('lease')
if not now then return {'gone'} end
local bits = {}
for i = 2, #ARGV do
  bits[i - 1] = redis.call('ZSCORE', KEYS[2], ARGV[i]) and 1 or 0
  if bits[i - 1] == 1 then redis.call('ZADD', KEYS[2], now + lease, ARGV[i]) end
end
note_holder()
return {'ok', table.concat(bits)}
""",
    BEGIN,
    flags="allow-oom",
)

ITEM_SCRIPTS: Final = (_PUT, _TAKE, _DONE, _RELEASE, _ABANDON, _KEEP)
