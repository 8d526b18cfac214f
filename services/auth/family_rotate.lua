-- Takes a refresh token of a session: the one that counts makes the next one
-- count, the one before it changes nothing for a while, any other ends the session.
--
-- KEYS[1]  sessions:{user id}, a hash: session id -> '<created> <end> <used> <device>', ms since 1970
-- KEYS[2]  families:{user id}, a hash: session id -> '<number of the token that counts> <since, ms since 1970>'
-- KEYS[3]  ended:{user id}, a string: the end of the user's sessions that is yet to be told
-- ARGV[1]  session id
-- ARGV[2]  number of the token that is shown
-- ARGV[3]  now, ms since 1970
-- ARGV[4]  idle limit, ms
-- ARGV[5]  how long the token before the last changes nothing, ms
-- ARGV[6]  name of this end of the session
-- ARGV[7]  how long it is kept, ms
-- Answers  {'', number, since, end of the session}, or {the end that is yet to be
--          told, '' for none, 0 if there is no live session, -1 if it was ended}
local function over() return {redis.call('GET', KEYS[3]) or '', 0} end
local record, family = redis.call('HGET', KEYS[1], ARGV[1]), redis.call('HGET', KEYS[2], ARGV[1])
if not record or not family then return over() end
local created, ends, used, device = string.match(record, '^(%d+) (%d+) (%d+) (.*)$')
local count, since = string.match(family, '^(%d+) (%d+)$')
local now, shown = tonumber(ARGV[3]), tonumber(ARGV[2])
count, since = tonumber(count), tonumber(since)
if now >= tonumber(ends) or now - tonumber(used) >= tonumber(ARGV[4]) then return over() end
if shown == count then
  count, since = count + 1, now
  -- Both in one step, the first of which is refused if no memory is left.
  redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f %.0f', count, now))
  redis.call('HSET', KEYS[1], ARGV[1], created .. ' ' .. ends .. ' ' .. ARGV[3] .. ' ' .. device)
elseif shown ~= count - 1 or now - since > tonumber(ARGV[5]) then
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('SET', KEYS[3], ARGV[6], 'PX', ARGV[7])
  return {ARGV[6], -1}
end
return {'', count, since, tonumber(ends)}
