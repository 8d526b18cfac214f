-- Lets a session be renewed by refresh tokens. Drops what is left of sessions
-- that are over.
--
-- KEYS[1]  sessions:{user id}, a hash: session id -> its record
-- KEYS[2]  families:{user id}, a hash: session id -> '<number of the token that counts> <since, ms since 1970>'
-- ARGV[1]  session id
-- ARGV[2]  now, ms since 1970
-- Answers  1, 0 if the session is not there
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], '1 ' .. ARGV[2])
for _, id in ipairs(redis.call('HKEYS', KEYS[2])) do
  if redis.call('HEXISTS', KEYS[1], id) == 0 then redis.call('HDEL', KEYS[2], id) end
end
redis.call('PEXPIREAT', KEYS[2], redis.call('PEXPIRETIME', KEYS[1]))
return 1
