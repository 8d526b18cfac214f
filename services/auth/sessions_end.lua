-- Ends all sessions of a user but one.
--
-- KEYS[1]  sessions:{user id}, a hash: session id -> its record
-- KEYS[2]  ended:{user id}, a string: the end of the user's sessions that is yet to be told
-- ARGV[1]  id of the session that stays, if it is there; empty for none
-- ARGV[2]  name of this end
-- ARGV[3]  how long it is kept, ms
-- Answers  {the end that is yet to be told, this one or another; '' for none}
local ended = 0
for _, id in ipairs(redis.call('HKEYS', KEYS[1])) do
  if id ~= ARGV[1] then ended = ended + redis.call('HDEL', KEYS[1], id) end
end
if ended > 0 then redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) end
return {redis.call('GET', KEYS[2]) or ''}
