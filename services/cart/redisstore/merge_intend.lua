#!lua
-- Merge, step 2 of 5, in the user's slot: note that the guest's cart is to come.
-- A merge id is drawn for one run of this step and never used in another, since
-- an intent that is consumed must stay consumed.
--
-- KEYS[1]  the user's cart, a hash
-- ARGV[1]  merge id, 12 bytes
-- ARGV[2]  the guest, then the incarnation of the guest's cart
--
-- Answers 1, or 0 if the user's cart is closed.

if redis.call('HGET', KEYS[1], '@g') == 'e' then return 0 end
redis.call('HSET', KEYS[1], '@m' .. ARGV[1], ARGV[2])
redis.call('HINCRBY', KEYS[1], '@p', 1)
redis.call('PERSIST', KEYS[1])
return 1
