#!lua
-- Merge, step 1 of 5, in the guest's slot: keep the guest's cart from expiring.
--
-- KEYS[1]  the guest's cart, a hash
-- ARGV[1]  merge id, 12 bytes
-- ARGV[2]  the user
-- ARGV[3]  life of a tombstone, milliseconds
--
-- Answers {what, x}: "held", incarnation | "sealed", guest state (another merge
-- has it) | "moved", "" (it is a tombstone; one is made if there was no cart).

local state = redis.call('HMGET', KEYS[1], '@i', '@g')
local guest = state[2] or ''
local how = string.sub(guest, 1, 1)
if how == 't' then return {'moved', ''} end
if how == 's' then return {'sealed', guest} end
if not state[1] then
  redis.call('HSET', KEYS[1], '@g', 't')
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return {'moved', ''}
end
redis.call('HSET', KEYS[1], '@g', 'h' .. ARGV[1] .. ARGV[2])
redis.call('PERSIST', KEYS[1])
return {'held', state[1]}
