-- Store one event in its channel's record and ring the doorbell with it.
-- KEYS: meta, stream. ARGV: doorbell topic, PUBLISH or SPUBLISH, life, nonce, '=' or '~',
-- history, ttl and meta ttl in ms or 0, event.
-- Life is the server that writes: 16 digits of its run id, 16 of its replication id; without
-- these from a connection that has not written for a while.
-- Meta is "1 epoch offset life previous-epoch base": where the record stands, the life of its last
-- writer, and the epoch that this one continues from offset base on ("-" if none); then up to seven
-- more such pairs, of the epochs before.
local meta = redis.call('GET', KEYS[1])
local epoch, offset, life, lineage = '-', 0, nil, nil
if meta then
  epoch, offset, life, lineage = string.match(meta, '^1 (%w+) (%d+) (%w+) (.+)$')
  if not epoch then
    return redis.error_reply('ERR the record of this channel is of an unknown version')
  end
end
offset = string.format('%d', offset + 1)
local mine = ARGV[3]
if #mine == 16 or life and life ~= mine and string.sub(life, 1, 16) == string.sub(mine, 1, 16) then
  -- This process may have been a replica in between, and have lost what it wrote before; that
  -- ends no connection. The replication id has other reasons to change, and ARGV has what it was on
  -- connecting.
  local info = redis.call('INFO', 'replication')
  local _, colon = string.find(info, 'master_replid:', 1, true)
  mine = string.sub(mine, 1, 16) .. string.sub(info, colon + 1, colon + 16)
end
if life ~= mine then
  -- The record is new, or another server process wrote it last, perhaps further than we know.
  -- Lua does not roll back: whatever could fail later is tried before anything is written.
  for _, call in ipairs({
    {'DEL', KEYS[2]}, {'XADD', KEYS[2], offset .. '-0', 'd', ''}, {'SET', KEYS[1], ''},
    {'PEXPIRE', KEYS[2], '1'}, {ARGV[2], ARGV[1], ''},
  }) do
    if not redis.acl_check_cmd(unpack(call)) then
      return redis.error_reply('NOPERM publishing needs permission for ' .. call[1])
    end
  end
  if not meta then redis.call('DEL', KEYS[2]) end
  local now = redis.call('TIME')
  local before, count = lineage or '', 1
  lineage = epoch .. ' ' .. offset
  for pair in string.gmatch(before, '%S+ %d+') do
    if count < 8 then lineage, count = lineage .. ' ' .. pair, count + 1 end
  end
  epoch = string.format('%x%05x', now[1], now[2]) .. ARGV[4]
end
meta = '1 ' .. epoch .. ' ' .. offset .. ' ' .. mine .. ' ' .. lineage
-- Meta first: should XADD fail the offset is a hole, which readers notice. The other way round no
-- offset would be free any more.
if ARGV[8] == '0' then
  redis.call('SET', KEYS[1], meta)
else
  redis.call('SET', KEYS[1], meta, 'PX', ARGV[8])
end
redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[5], ARGV[6], offset .. '-0', 'd', ARGV[9])
if ARGV[8] ~= '0' then redis.call('PEXPIRE', KEYS[2], ARGV[7]) end
local position = epoch .. '-' .. offset
redis.call(ARGV[2], ARGV[1], '\1' .. position .. '\n' .. ARGV[9])
return position
