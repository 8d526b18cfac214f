#!lua
-- Merge, step 3 of 5, in the guest's slot: no more changes; this merge has the cart.
--
-- KEYS[1]  the guest's cart, a hash
-- ARGV[1]  merge id, 12 bytes
-- ARGV[2]  the user
-- ARGV[3]  the incarnation that the intent names: a cart that started later is not meant
--
-- Answers {"sealed", field, value, …} | {"other", guest state} (another merge has it) |
-- {"gone"} (it is a tombstone, or not the cart that was meant; for ever).

local state = redis.call('HMGET', KEYS[1], '@i', '@g')
local guest = state[2] or ''
local how = string.sub(guest, 1, 1)
local mine = 's' .. ARGV[1] .. ARGV[2]
if how == 't' then return {'gone'} end
if how == 's' then
  if guest ~= mine then return {'other', guest} end
else
  if (state[1] or '') ~= ARGV[3] then return {'gone'} end
  redis.call('HSET', KEYS[1], '@g', mine)
  redis.call('PERSIST', KEYS[1])
end
local out = {'sealed'}
for _, x in ipairs(redis.call('HGETALL', KEYS[1])) do out[#out + 1] = x end
return out
