-- Forgets an end of sessions that was told. One that came since stays: it is yet
-- to be told.
--
-- KEYS[1]  ended:{user id}, a string: the end of the user's sessions that is yet to be told
-- ARGV[1]  name of the end that was told
-- Answers  1 forgotten, 0 it is not there, or another is
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
