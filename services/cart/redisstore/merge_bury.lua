#!lua
-- Merge, step 5 of 5, in the guest's slot: the sealed cart becomes a tombstone.
-- Only to be run after step 4: sealed with its intent gone means applied.
--
-- KEYS[1]  the guest's cart, a hash
-- ARGV[1]  the guest state that the seal left
-- ARGV[2]  life of the tombstone, milliseconds

if redis.call('HGET', KEYS[1], '@g') ~= ARGV[1] then return 0 end
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, 1) ~= '@' then redis.call('HDEL', KEYS[1], field) end
end
redis.call('HSET', KEYS[1], '@g', 't')
redis.call('HINCRBY', KEYS[1], '@v', 1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
