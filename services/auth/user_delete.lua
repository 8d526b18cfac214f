-- Deletes a user with all sessions. A mark stays for a while: it keeps a late
-- repeat of the registration from undoing this, and tells a repeat of this
-- which address to free.
--
-- KEYS[1]  user:{user id}, a hash
-- KEYS[2]  sessions:{user id}, a hash
-- KEYS[3]  ended:{user id}, a string: the end of the user's sessions that is yet to be told
-- ARGV[1]  digest of the e-mail address
-- ARGV[2]  how long the mark stays, s
-- ARGV[3]  name of this end of sessions
-- ARGV[4]  how long it is kept, ms
-- Answers  {the end that is yet to be told, this one or another; '' for none}
redis.call('DEL', KEYS[1])
if redis.call('DEL', KEYS[2]) == 1 then redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[4]) end
redis.call('HSET', KEYS[1], 'gone', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return {redis.call('GET', KEYS[3]) or ''}
