"""The Lua scripts of the Redis store: what must happen at once. Redis runs each without anything in between."""

from __future__ import annotations

from typing import Final

CREATE: Final = """
local there = redis.call('GET', KEYS[1])
if there then return {0, there} end
local sequence = string.format('%d', redis.call('INCR', KEYS[2]))
local text = '{"sequence":' .. sequence .. ',' .. string.sub(ARGV[1], 2)
redis.call('SET', KEYS[1], text)
local place = ARGV[2] .. string.rep('0', tonumber(ARGV[3]) - #sequence) .. sequence .. ':' .. ARGV[4]
for i = 3, #KEYS do redis.call('ZADD', KEYS[i], 0, place) end
return {1, text}
"""
"""KEYS: document, counter of documents, then its lists. ARGV: text, how its place begins, digits of a number, id.
Returns whether it is new, and the text that is there now."""

REPLACE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2]) end
local left = tonumber(ARGV[4])
for i = 2, #KEYS do
    redis.call(i <= left + 1 and 'ZREM' or 'ZADD', KEYS[i], unpack(i <= left + 1 and {ARGV[3]} or {0, ARGV[3]}))
end
return 1
"""
"""KEYS: document, lists that it leaves, lists that it enters. ARGV: text that must be there, new text ('' deletes),
place, number of lists that it leaves. Returns 0 where another text is there; nothing was changed then."""

PAGE: Final = """
local places = redis.call('ZRANGE', KEYS[1], ARGV[1], '-', 'BYLEX', 'REV', 'LIMIT', 0, ARGV[2])
local found = {}
for i, place in ipairs(places) do
    found[i] = redis.call('GET', ARGV[3] .. string.match(place, '^%d+:%d+:(.*)$'))
end
return {places, found}
"""
"""KEYS: list. ARGV: where to begin ('+' or '(' and a place), how many, key of a document up to its id. Returns places,
newest first, and their documents."""

APPEND: Final = """
local added = 0
for i = 1, #ARGV, 2 do
    if redis.call('SADD', KEYS[2], ARGV[i]) == 1 then
        redis.call('XADD', KEYS[1], redis.call('INCR', KEYS[3]) .. '-0', 'd', ARGV[i + 1], 'k', ARGV[i])
        added = added + 1
    end
end
return added
"""
"""KEYS: stream, keys seen, counter of ids. ARGV: key, text, key, text ... Returns how many were new."""

TRIM: Final = """
local count = math.min(redis.call('XLEN', KEYS[1]) - ARGV[1], tonumber(ARGV[2]))
if count <= 0 then return 0 end
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', count)) do
    redis.call('XDEL', KEYS[1], entry[1])
    if entry[2][4] then redis.call('SREM', KEYS[2], entry[2][4]) end
end
return count
"""
"""KEYS: stream, keys seen. ARGV: how many stay, how many go at most. Returns how many went. An entry that an earlier
version wrote lacks its key, which then stays."""

ACQUIRE: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
"""
"""KEYS: lease. ARGV: owner, milliseconds. Returns 1 where the owner has it now."""

RELEASE: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
"""KEYS: lease. ARGV: owner."""

REMEMBER: Final = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return ARGV[1] end
return redis.call('GET', KEYS[1])
"""
"""KEYS: answer. ARGV: text, milliseconds. Returns the text that is there now."""

COUNT: Final = """
local total = redis.call('INCRBY', KEYS[1], ARGV[1])
if redis.call('PTTL', KEYS[1]) < 0 then
    local now, window = redis.call('TIME'), tonumber(ARGV[2])
    local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
    redis.call('PEXPIRE', KEYS[1], window - now_ms % window)
end
return total
"""
"""KEYS: counter. ARGV: amount, milliseconds. Returns the sum. Windows begin at multiples of their length."""
