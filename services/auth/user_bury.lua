-- Makes sure that a user who is not there does not come back, so that their
-- address can be given to another. Without the mark, a registration that
-- somebody resumes could go on beside the one that takes the address over.
--
-- KEYS[1]  user:{user id}, a hash
-- ARGV[1]  digest of the e-mail address
-- ARGV[2]  how long the mark stays, s; longer than any call may take
-- Answers  1 the user is there, and stays, 0 gone
if redis.call('HEXISTS', KEYS[1], 'email') == 1 then return 1 end
redis.call('HSET', KEYS[1], 'gone', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 0
