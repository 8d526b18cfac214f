-- Sets a new password and ends all sessions, once under one operation id, if
-- the password is still the one that the caller checked.
--
-- KEYS[1]  user:{user id}, a hash
-- KEYS[2]  sessions:{user id}, a hash
-- KEYS[3]  ended:{user id}, a string: the end of the user's sessions that is yet to be told
-- ARGV[1]  generation of the password that was checked
-- ARGV[2]  new password, a PHC string
-- ARGV[3]  operation id
-- ARGV[4]  name of this end of sessions
-- ARGV[5]  how long it is kept, ms
-- Answers  {the end that is yet to be told, this one or another; '' for none, what
--          became of the change}: 1 changed, now or before under this operation id,
--          0 no such user, 2 the password is another by now
local function untold() return redis.call('GET', KEYS[3]) or '' end
local user = redis.call('HMGET', KEYS[1], 'generation', 'operation')
if not user[1] then return {untold(), 0} end
if user[2] == ARGV[3] then return {untold(), 1} end
if user[1] ~= ARGV[1] then return {untold(), 2} end
redis.call('HSET', KEYS[1], 'password', ARGV[2], 'operation', ARGV[3])
redis.call('HINCRBY', KEYS[1], 'generation', 1)
if redis.call('DEL', KEYS[2]) == 1 then redis.call('SET', KEYS[3], ARGV[4], 'PX', ARGV[5]) end
return {untold(), 1}
