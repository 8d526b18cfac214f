#!lua
-- Merge, step 4 of 5, in the user's slot: consume the intent and add the lines.
-- No intent, no effect: a repeat, however late, does nothing. Without lines it
-- gives an intent up.
--
-- KEYS[1]  the user's cart, a hash
-- ARGV[1]  merge id, 12 bytes
-- ARGV[2]  life of the cart, milliseconds
-- ARGV[3]  incarnation, should the cart start here
-- ARGV[4] onwards: SKU and quantity in turn
--
-- Answers 1 if the intent was there.

local cart = KEYS[1]
if redis.call('HDEL', cart, '@m' .. ARGV[1]) == 0 then return 0 end
local pending = redis.call('HINCRBY', cart, '@p', -1)
if pending == 0 then redis.call('HDEL', cart, '@p') end
for i = 4, #ARGV, 2 do redis.call('HINCRBY', cart, ARGV[i], ARGV[i + 1]) end
if #ARGV > 4 then
  redis.call('HINCRBY', cart, '@v', 1)
  redis.call('HSETNX', cart, '@i', ARGV[3])
end
if pending == 0 then redis.call('PEXPIRE', cart, ARGV[2]) end
return 1
