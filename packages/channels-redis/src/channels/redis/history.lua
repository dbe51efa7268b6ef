-- Read a channel's record and its top in one moment.
-- KEYS: meta, stream. ARGV: epoch and offset to read after, how many of the newest (-1: all).
-- Returns meta, whether the record continues that position, the offset it was read
-- after, and the entries; nothing if there is no record.
local meta = redis.call('GET', KEYS[1])
if not meta then return {} end
local epoch, offset, lineage = string.match(meta, '^1 (%w+) (%d+) %w+ (.+)$')
if not epoch then
  return redis.error_reply('ERR the record of this channel is of an unknown version')
end
local after, known = tonumber(ARGV[2]), 1
if ARGV[1] ~= epoch and ARGV[1] ~= '0' then
  local base = 1
  for previous, from in string.gmatch(lineage, '(%S+) (%d+)') do
    if previous == ARGV[1] then base = tonumber(from) end
  end
  -- The reader may have had events that this server has lost, or be of an epoch that is forgotten.
  if base == 1 or after >= base then after, known = base - 1, 0 end
end
local limit, entries = tonumber(ARGV[3]), {}
if limit ~= 0 and after < tonumber(offset) then
  local first = string.format('(%d-0', after)
  if limit < 0 then
    entries = redis.call('XRANGE', KEYS[2], first, '+')
  else
    entries = redis.call('XREVRANGE', KEYS[2], '+', first, 'COUNT', limit)
  end
end
return {meta, known, after, entries}
