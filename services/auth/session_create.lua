-- Starts a session if the password is still the one that was checked. Drops the
-- sessions that are over and, beyond the limit, those unused the longest. Ends
-- the user's registration too, if a crash left that open.
--
-- KEYS[1]  user:{user id}, a hash
-- KEYS[2]  sessions:{user id}, a hash: session id -> '<created> <end> <used> <device>', ms since 1970
-- KEYS[3]  ended:{user id}, a string: the end of the user's sessions that is yet to be told
-- ARGV[1]  generation of the password that was checked
-- ARGV[2]  session id
-- ARGV[3]  the session's record
-- ARGV[4]  now, ms since 1970
-- ARGV[5]  the session's end, ms since 1970
-- ARGV[6]  idle limit, ms
-- ARGV[7]  most sessions a user may have
-- ARGV[8]  name of the end of others
-- ARGV[9]  how long it is kept, ms
-- Answers  {the end that is yet to be told, if others were ended for it, else '',
--          1 started, 0 the password is another by now or the user is gone}
if redis.call('HGET', KEYS[1], 'generation') ~= ARGV[1] then return {'', 0} end
local all = redis.call('HGETALL', KEYS[2])
-- First of the writes: what needs memory is refused here when none is left, and
-- would not be behind one that needs none.
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('PERSIST', KEYS[1])

local now, last, idle = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local live = {}
for i = 1, #all, 2 do
  local ends, used = string.match(all[i + 1], '^%d+ (%d+) (%d+) ')
  ends, used = tonumber(ends), tonumber(used)
  if now < ends and now - used < idle then
    live[#live + 1] = { id = all[i], used = used }
    if ends > last then last = ends end
  else
    redis.call('HDEL', KEYS[2], all[i])
  end
end
table.sort(live, function(a, b) return a.used < b.used end)
local surplus = #live - (tonumber(ARGV[7]) - 1)
for i = 1, surplus do
  redis.call('HDEL', KEYS[2], live[i].id)
end
redis.call('PEXPIRE', KEYS[2], string.format('%.0f', last - now))
if surplus < 1 then return {'', 1} end
redis.call('SET', KEYS[3], ARGV[8], 'PX', ARGV[9])
return {ARGV[8], 1}
