-- Ends a session of a user.
--
-- KEYS[1]  sessions:{user id}, a hash: session id -> its record
-- KEYS[2]  ended:{user id}, a string: the end of the user's sessions that is yet to be told
-- ARGV[1]  session id
-- ARGV[2]  name of this end
-- ARGV[3]  how long it is kept, ms
-- Answers  {the end that is yet to be told, this one or another; '' for none}
if redis.call('HDEL', KEYS[1], ARGV[1]) == 1 then redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) end
return {redis.call('GET', KEYS[2]) or ''}
