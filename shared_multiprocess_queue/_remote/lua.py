"""What the scripts have in common: kinds of keys, functions in Lua, and how a script is made of parts."""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

META, WAITING, LEASED, PAYLOADS, RETURNED = "m", "w", "l", "d", "r"
DEAD, SESSION, GETTERS, PUTTERS, JOINERS, BRIDGE = "x", "s", "tg", "tp", "ti", "b"
COMMON: Final = (META, LEASED, RETURNED)
"""The keys with which each script begins, for the time."""

MOST_TOKENS: Final = 32
MOST_DEAD: Final = 1024
MEMORY: Final = 7200
"""Seconds for which the server remembers the last request of a session; a client sends none again for half of them."""

_MORE: Final = 600
"""Seconds by which the server remembers it longer, so that it need not say anew for each request until when."""


class Script(NamedTuple):
    """A script and the names of its keys.

    Attributes:
        name: of the script, for messages.
        keys: the kinds of its keys, in order.
        text: in Lua.
        digest: by which the server knows it.
    """

    name: str
    keys: tuple[str, ...]
    text: str
    digest: str


BEGIN: Final = """
local function time()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
local function move(key, by)
  for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do redis.call('ZINCRBY', key, by, member) end
end
-- Return the time and fields of META; nothing, if it is another queue's. If the clock was set back, all times of the
-- queue move along. Of the time since the last script no more counts for leases than living holders are silent for; by
-- the rest, in which the clock was set forward, or the server was away, they move along: once, until one is taken or
-- renewed. For what only waits for its time, all time counts.
local is_moved, now
local function begin(...)
  local m = redis.call('HMGET', KEYS[1], 'uuid', 'time', 'lease', 'moved', ...)
  if m[1] ~= ARGV[1] then return nil end
  now = time()
  local passed = now - m[2]
  local counts = math.max(math.floor(m[3] / 3), 2000)
  is_moved = m[4]
  if passed < -500 then
    move(KEYS[2], passed)
    move(KEYS[3], passed)
    for _, field in ipairs({'getters', 'putters', 'joiners', 'gate_until'}) do
      if redis.call('HEXISTS', KEYS[1], field) == 1 then redis.call('HINCRBY', KEYS[1], field, passed) end
    end
    m = redis.call('HMGET', KEYS[1], 'uuid', 'time', 'lease', 'moved', ...)
  elseif passed > counts and not is_moved and redis.call('ZCARD', KEYS[2]) > 0 then
    move(KEYS[2], passed - counts)
    redis.call('HSET', KEYS[1], 'moved', 1)
    is_moved = true
  end
  if passed < -500 or passed > 500 then redis.call('HSET', KEYS[1], 'time', now) end
  return now, unpack(m, 5)
end
local function note_holder()
  if is_moved then redis.call('HDEL', KEYS[1], 'moved') end
end
"""

WAKE: Final = f"""
local function wake(key, count)
  if count <= 0 then return end
  local length
  for _ = 1, math.min(count, {MOST_TOKENS}) do length = redis.call('RPUSH', key, '1') end
  if length > {MOST_TOKENS} then redis.call('LTRIM', key, 0, {MOST_TOKENS - 1}) end
  redis.call('PEXPIRE', key, 3000)
end
local function waits(until_ms, now)
  return until_ms and tonumber(until_ms) > now
end
"""

ONCE: Final = f"""
-- Return the answer to a request that was done before, or that is too late to be done; nil if it is to be done.
local lives_since
local function seen(key, number)
  local last = redis.call('GET', key)
  if not last then return nil end
  local n, since, answer = string.match(last, '^(%d+) (%d+) (.*)$')
  lives_since = since
  if tonumber(n) == tonumber(number) then return {{answer == 'full' and 'full' or 'ok', answer}} end
  if tonumber(n) > tonumber(number) then return {{'late'}} end
  return nil
end
local function remember(key, number, answer)
  local age = now - (lives_since or 0)
  if age >= 0 and age < {_MORE * 1000} then
    redis.call('SET', key, number .. ' ' .. lives_since .. ' ' .. answer, 'KEEPTTL')
  else
    redis.call('SET', key, number .. ' ' .. string.format('%d', now) .. ' ' .. answer, 'EX', {MEMORY + _MORE})
  end
end
"""

QUIET: Final = """
local function quiet(waiting, joiners, now)
  if redis.call('LLEN', waiting) > 0 then return end
  if redis.call('ZCARD', KEYS[2]) + redis.call('ZCARD', KEYS[3]) > 0 then return end
  redis.call('HINCRBY', KEYS[1], 'idle', 1)
  if waits(redis.call('HGET', KEYS[1], 'joiners'), now) then wake(joiners, 32) end
end
"""

BACK: Final = f"""
-- Give an item of PAYLOADS back: as a dead letter, behind all others, or from a time on.
local function give_back(waiting, payloads, dead, id, deliveries, due, last)
  local m = redis.call('HMGET', KEYS[1], 'closed', 'max_deliveries', 'leases')
  if m[1] == '2' then
    redis.call('HDEL', payloads, id)
    return
  end
  local most = tonumber(m[2])
  if most > 0 and tonumber(deliveries) >= most then
    if redis.call('HLEN', dead) < math.min(tonumber(m[3]), {MOST_DEAD}) then
      redis.call('HSET', dead, id, deliveries .. ':' .. redis.call('HGET', payloads, id))
      redis.call('HDEL', payloads, id)
      redis.call('HINCRBY', KEYS[1], 'dead_total', 1)
      return
    end
    redis.call('HINCRBY', KEYS[1], 'dead_refused', 1)
    last = true
  end
  if last then
    redis.call('RPUSH', waiting, id .. ':' .. deliveries .. ':' .. redis.call('HGET', payloads, id))
    redis.call('HDEL', payloads, id)
  else
    redis.call('ZADD', KEYS[3], due, id .. ':' .. deliveries)
  end
end
"""

# Of looks, which change nothing and so may be asked of a server that accepts no changes.
LOOKING: Final = """
local function is_other()
  return redis.call('HGET', KEYS[1], 'uuid') ~= ARGV[1]
end
"""


def script_of(name: str, keys: tuple[str, ...], body: str, *parts: str, flags: str = "") -> Script:
    """Return a script.

    Args:
        name: of it.
        keys: the kinds of its keys besides COMMON, in order.
        body: in Lua.
        parts: functions that the body calls, each behind those that it calls itself.
        flags: what the server is told about it.
    """
    text = f"#!lua{flags and f' flags={flags}'}\n" + "".join(parts) + body
    return Script(name, (*COMMON, *keys), text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
