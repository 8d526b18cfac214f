-- Sets a new password and ends all sessions, once under one operation id, if
-- the password is still the one that the caller checked.
--
-- KEYS[1]  user:{user id}, a hash
-- KEYS[2]  sessions:{user id}, a hash
-- ARGV[1]  generation of the password that was checked
-- ARGV[2]  new password, a PHC string
-- ARGV[3]  operation id
-- Answers  1 changed, now or before under this operation id, 0 no such user,
--          2 the password is another by now
local user = redis.call('HMGET', KEYS[1], 'generation', 'operation')
if not user[1] then return 0 end
if user[2] == ARGV[3] then return 1 end
if user[1] ~= ARGV[1] then return 2 end
redis.call('HSET', KEYS[1], 'password', ARGV[2], 'operation', ARGV[3])
redis.call('HINCRBY', KEYS[1], 'generation', 1)
redis.call('DEL', KEYS[2])
return 1
