-- Deletes a user with all sessions. A mark stays for a while: it keeps a late
-- repeat of the registration from undoing this, and tells a repeat of this
-- which address to free.
--
-- KEYS[1]  user:{user id}, a hash
-- KEYS[2]  sessions:{user id}, a hash
-- ARGV[1]  digest of the e-mail address
-- ARGV[2]  how long the mark stays, s
-- Answers  1
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[1], 'gone', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
