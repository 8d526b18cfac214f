-- Ends all sessions of a user but one.
--
-- KEYS[1]  sessions:{user id}, a hash: session id -> its record
-- ARGV[1]  id of the session that stays, if it is there; empty for none
-- Answers  how many have ended
local ended = 0
for _, id in ipairs(redis.call('HKEYS', KEYS[1])) do
  if id ~= ARGV[1] then ended = ended + redis.call('HDEL', KEYS[1], id) end
end
return ended
