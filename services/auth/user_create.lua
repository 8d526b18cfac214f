-- Writes a user who is not there, to be forgotten unless user_keep.lua follows.
-- A user who is there with the same address stays as they are.
--
-- KEYS[1]  user:{user id}, a hash
-- ARGV[1]  e-mail address, in lower case
-- ARGV[2]  password, a PHC string
-- ARGV[3]  now, ms since 1970
-- ARGV[4]  how long an unfinished registration is kept, s
-- Answers  1 the user is there, 0 the id was given up (user_bury.lua, user_delete.lua),
--          2 the id belongs to another address
local user = redis.call('HMGET', KEYS[1], 'email', 'gone')
if user[2] then return 0 end
if user[1] and user[1] ~= ARGV[1] then return 2 end
if user[1] then
  redis.call('EXPIRE', KEYS[1], ARGV[4], 'XX')
else
  redis.call('HSET', KEYS[1], 'email', ARGV[1], 'password', ARGV[2], 'generation', '1', 'created', ARGV[3])
  redis.call('EXPIRE', KEYS[1], ARGV[4])
end
return 1
