#!lua
-- Stores an order and empties the cart that it was made of, in one step, if the
-- cart is still at the version that was priced.
--
-- KEYS[1]  the cart, a hash
-- KEYS[2]  the record of this operation, a string
-- KEYS[3]  the order, a string
-- KEYS[4]  the owner's orders: a sorted set of ids, all of score 0; all keys are of one slot
-- ARGV[1]  fingerprint of the request, 8 bytes
-- ARGV[2]  life of the record, ARGV[3] of the cart, ARGV[4] of the order, milliseconds
-- ARGV[5]  condition: ",inc.ver," as in change.lua
-- ARGV[6]  the order's id, ARGV[7] the order
-- ARGV[8]  the smallest id that an order young enough to be kept can have
--
-- Answers {outcome, 1 if replayed, id of the order}; outcomes as in change.lua.

local cart, op = KEYS[1], KEYS[2]
local record = redis.call('GET', op)
if record then
  if string.sub(record, 1, 8) ~= ARGV[1] then return {'r', 0, ''} end
  return {string.sub(record, 9, 9), 1, string.sub(record, 10)}
end

local state = redis.call('HMGET', cart, '@v', '@i', '@p')
local version, incarnation = state[1] or '0', state[2] or ''
if not string.find(ARGV[5], ',' .. incarnation .. '.' .. version .. ',', 1, true) then
  redis.call('SET', op, ARGV[1] .. 's', 'PX', ARGV[2])
  return {'s', 0, ''}
end

redis.call('SET', KEYS[3], ARGV[7], 'PX', ARGV[4])
redis.call('ZADD', KEYS[4], 0, ARGV[6])
redis.call('ZREMRANGEBYLEX', KEYS[4], '-', '(' .. ARGV[8])
redis.call('PEXPIRE', KEYS[4], ARGV[4])
for _, field in ipairs(redis.call('HKEYS', cart)) do
  if string.sub(field, 1, 1) ~= '@' then redis.call('HDEL', cart, field) end
end
redis.call('HINCRBY', cart, '@v', 1)
if not state[3] then redis.call('PEXPIRE', cart, ARGV[3]) end
redis.call('SET', op, ARGV[1] .. 'o' .. ARGV[6], 'PX', ARGV[2])
return {'o', 0, ARGV[6]}
