#!lua
-- Adds to, sets or clears the lines of one cart: the whole change is this one step.
--
-- KEYS[1]  the cart, a hash (fields: see redisstore.go)
-- KEYS[2]  the record of this operation, a string; same slot
-- ARGV[1]  kind: a add, s set, c clear
-- ARGV[2]  fingerprint of the request, 8 bytes
-- ARGV[3]  life of the record, milliseconds
-- ARGV[4]  life of the cart after this change, milliseconds
-- ARGV[5]  incarnation, should the cart start with this change
-- ARGV[6]  condition: "" for none, else ",inc.ver,inc.ver," of which one must be the cart's
-- ARGV[7]  most of one product, ARGV[8] most lines
-- ARGV[9]  f to answer all fields, l the named lines only
-- ARGV[10] onwards: SKU and quantity in turn, SKUs distinct
--
-- Answers {outcome, version it led to, 1 if replayed, pending merges or "", guest state or "",
--          version now, incarnation, expiry in Unix milliseconds, field, value, field, value, …}
-- Outcomes: o ok, s stale, q quantity limit, l line limit (these are recorded);
--           r key reused, m moved (these are not).
--
-- The shebang has Redis refuse the script as a whole when it is out of memory,
-- so no write can fail half way.

local cart, op = KEYS[1], KEYS[2]
local kind = ARGV[1]
local state = redis.call('HMGET', cart, '@v', '@i', '@p', '@g')
local version, incarnation, pending, guest = state[1] or '0', state[2] or '', state[3] or '', state[4] or ''

local function answer(outcome, led_to, replayed)
  local out = {outcome, led_to, replayed, pending, guest, version, incarnation, redis.call('PEXPIRETIME', cart)}
  if ARGV[9] == 'f' then
    for _, x in ipairs(redis.call('HGETALL', cart)) do out[#out + 1] = x end
  else
    for i = 10, #ARGV, 2 do
      out[#out + 1] = ARGV[i]
      out[#out + 1] = redis.call('HGET', cart, ARGV[i]) or '0'
    end
  end
  return out
end

local record = redis.call('GET', op)
if record then
  if string.sub(record, 1, 8) ~= ARGV[2] then return answer('r', '0', 0) end
  return answer(string.sub(record, 9, 9), string.sub(record, 10), 1)
end

local held = string.sub(guest, 1, 1) == 'h'
if guest ~= '' and not held then return answer('m', '0', 0) end

local function finish(outcome)
  redis.call('SET', op, ARGV[2] .. outcome .. version, 'PX', ARGV[3])
  return answer(outcome, version, 0)
end

if ARGV[6] ~= '' and not string.find(ARGV[6], ',' .. incarnation .. '.' .. version .. ',', 1, true) then
  return finish('s')
end

local max_quantity, max_lines = tonumber(ARGV[7]), tonumber(ARGV[8])
local lines = redis.call('HLEN', cart)
if state[1] then lines = lines - 2 end
if pending ~= '' then lines = lines - 1 - tonumber(pending) end
if guest ~= '' then lines = lines - 1 end

local changed = false
if kind == 'a' then
  local fresh = 0
  for i = 10, #ARGV, 2 do
    local now = redis.call('HGET', cart, ARGV[i])
    if not now then fresh = fresh + 1 end
    if tonumber(now or 0) + tonumber(ARGV[i + 1]) > max_quantity then return finish('q') end
  end
  if fresh > 0 and lines + fresh > max_lines then return finish('l') end
  for i = 10, #ARGV, 2 do redis.call('HINCRBY', cart, ARGV[i], ARGV[i + 1]) end
  changed = true
elseif kind == 's' then
  local now = redis.call('HGET', cart, ARGV[10])
  local want = tonumber(ARGV[11])
  if want == 0 then
    if now then
      redis.call('HDEL', cart, ARGV[10])
      changed = true
    end
  elseif not now or tonumber(now) ~= want then
    if want > max_quantity then return finish('q') end
    if not now and lines + 1 > max_lines then return finish('l') end
    redis.call('HSET', cart, ARGV[10], ARGV[11])
    changed = true
  end
elseif lines > 0 then
  for _, field in ipairs(redis.call('HKEYS', cart)) do
    if string.sub(field, 1, 1) ~= '@' then redis.call('HDEL', cart, field) end
  end
  changed = true
end

if changed then
  version = tostring(redis.call('HINCRBY', cart, '@v', 1))
  if incarnation == '' then
    incarnation = ARGV[5]
    redis.call('HSET', cart, '@i', incarnation)
  end
  -- A cart with a merge under way does not expire.
  if pending == '' and not held then redis.call('PEXPIRE', cart, ARGV[4]) end
end
return finish('o')
