#!lua
-- Empties the cart of an account that ends and closes it: until the mark
-- expires, nothing that is still under way fills it again.
--
-- KEYS[1]  the user's cart, a hash
-- ARGV[1]  how long the mark stays, milliseconds; longer than any call may take
--
-- Answers 1, or 0 while there are merges to be completed first.

if redis.call('HEXISTS', KEYS[1], '@p') == 1 then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], '@g', 'e')
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
