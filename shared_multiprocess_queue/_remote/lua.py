"""What the scripts have in common: kinds of keys, functions in Lua, and how a script is made of parts."""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

META, WAITING, LEASED, PAYLOADS, RETURNED = "m", "w", "l", "d", "r"
DEAD, SESSION, GETTERS, PUTTERS, JOINERS, BRIDGE = "x", "s", "tg", "tp", "ti", "b"
MOST_TOKENS: Final = 32
MOST_DEAD: Final = 1024


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


NOW: Final = """
local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
"""

WAKE: Final = f"""
local function wake(key, count)
  if count <= 0 then return end
  for _ = 1, math.min(count, {MOST_TOKENS}) do redis.call('RPUSH', key, '1') end
  redis.call('LTRIM', key, 0, {MOST_TOKENS - 1})
  redis.call('PEXPIRE', key, 3000)
end
local function waits(until_ms)
  return until_ms and tonumber(until_ms) > clock()
end
"""

ONCE: Final = """
local function seen(key, number)
  local last = redis.call('GET', key)
  if not last then return nil end
  local n, answer = string.match(last, '^(%d+) (.*)$')
  if tonumber(n) == tonumber(number) then return {'ok', answer} end
  if tonumber(n) > tonumber(number) then return {'late'} end
  return nil
end
local function remember(key, number, answer)
  redis.call('SET', key, number .. ' ' .. answer, 'PX', 3600000)
end
"""

QUIET: Final = """
local function quiet(waiting, returned, leased, meta, joiners)
  if redis.call('LLEN', waiting) + redis.call('ZCARD', returned) + redis.call('ZCARD', leased) > 0 then return end
  redis.call('HINCRBY', meta, 'idle', 1)
  if waits(redis.call('HGET', meta, 'joiners')) then wake(joiners, 32) end
end
"""

BACK: Final = f"""
-- Give an item of PAYLOADS back: as a dead letter, behind all others, or from a time on.
local function give_back(meta, waiting, payloads, returned, dead, id, deliveries, due, last)
  local m = redis.call('HMGET', meta, 'closed', 'max_deliveries', 'leases')
  if m[1] == '2' then
    redis.call('HDEL', payloads, id)
    return
  end
  local most = tonumber(m[2])
  if most > 0 and tonumber(deliveries) >= most then
    if redis.call('HLEN', dead) < math.min(tonumber(m[3]), {MOST_DEAD}) then
      redis.call('HSET', dead, id, deliveries .. ':' .. redis.call('HGET', payloads, id))
      redis.call('HDEL', payloads, id)
      redis.call('HINCRBY', meta, 'dead_total', 1)
      return
    end
    redis.call('HINCRBY', meta, 'dead_refused', 1)
    last = true
  end
  if last then
    redis.call('RPUSH', waiting, id .. ':' .. deliveries .. ':' .. redis.call('HGET', payloads, id))
    redis.call('HDEL', payloads, id)
  else
    redis.call('ZADD', returned, due, id .. ':' .. deliveries)
  end
end
"""


def script_of(name: str, keys: tuple[str, ...], body: str, *parts: str, flags: str = "") -> Script:
    """Return a script.

    Args:
        name: of it.
        keys: the kinds of its keys, in order.
        body: in Lua.
        parts: functions that the body calls, each behind those that it calls itself.
        flags: what the server is told about it.
    """
    text = f"#!lua{flags and f' flags={flags}'}\n" + "".join(parts) + body
    return Script(name, keys, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
