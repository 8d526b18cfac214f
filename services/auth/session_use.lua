-- Tells whether a session is live, and marks it used, at most once an interval.
-- A mark that cannot be written (no memory left) leaves the answer as it is.
--
-- KEYS[1]  sessions:{user id}, a hash: session id -> '<created> <end> <used> <device>', ms since 1970
-- KEYS[2]  ended:{user id}, a string: the end of the user's sessions that is yet to be told
-- ARGV[1]  session id
-- ARGV[2]  now, ms since 1970
-- ARGV[3]  idle limit, ms
-- ARGV[4]  least time between two marks, ms
-- Answers  {'', the session's end, ms since 1970}, or if it is over or never was there
--          {the end that is yet to be told, '' for none, 0}
local function over() return {redis.call('GET', KEYS[2]) or '', 0} end
local record = redis.call('HGET', KEYS[1], ARGV[1])
if not record then return over() end
local created, ends, used, device = string.match(record, '^(%d+) (%d+) (%d+) (.*)$')
local now, unused = tonumber(ARGV[2]), tonumber(ARGV[2]) - tonumber(used)
if now >= tonumber(ends) or unused >= tonumber(ARGV[3]) then return over() end
if unused >= tonumber(ARGV[4]) then
  redis.pcall('HSET', KEYS[1], ARGV[1], created .. ' ' .. ends .. ' ' .. ARGV[2] .. ' ' .. device)
end
return {'', tonumber(ends)}
