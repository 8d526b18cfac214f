-- Takes an address that is free, or that belongs to the owner named.
--
-- KEYS[1]  email:<digest>, a string: the id of the user who has the address
-- ARGV[1]  id of the user who wants it
-- ARGV[2]  id of the owner it may be taken from; empty for none
-- Answers  the id of the owner after this
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[2] then return owner end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
