-- Frees an address if it is still that user's.
--
-- KEYS[1]  email:<digest>, a string: the id of the user who has the address
-- ARGV[1]  user id
-- Answers  1 freed, 0 it is not theirs
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
