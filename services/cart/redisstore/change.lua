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
-- Answers one string, these with a space between each two:
--   outcome, version it led to, 1 if replayed, version now, incarnation, number of pending
--   merges or "", first letter of the guest state or "", expiry in Unix milliseconds,
--   SKU, quantity, SKU, quantity, … (0 for one that is not in the cart). What begins with
--   @ in place of a SKU is to be passed over. Nothing in it holds a space: what may is left out.
-- Outcomes: o ok, s stale, q quantity limit, l line limit (these are recorded);
--           r key reused, m moved (these are not).
--
-- The shebang has Redis refuse the script as a whole when it is out of memory,
-- so no write can fail half way. Each call costs as much as dozens of lines of
-- Lua, and each number that becomes text as much as several: hence few of both.

local call, cart, op = redis.call, KEYS[1], KEYS[2]
local kind, whole = ARGV[1], ARGV[9] == 'f'

-- What is there. all is what is answered, at is where in it the named lines' quantities are.
local version, incarnation, pending, guest = '0', '', '', ''
local all, at, fields = {}, {}, nil
if whole then
  for i = 10, #ARGV, 2 do at[ARGV[i]] = 0 end
  all = call('HGETALL', cart)
  fields = #all / 2
  for i = 1, #all, 2 do
    local field = all[i]
    if at[field] then at[field] = i + 1
    elseif field == '@v' then version = all[i + 1]
    elseif field == '@i' then incarnation = all[i + 1]
    elseif field == '@p' then pending = all[i + 1]
    elseif field == '@g' then guest = all[i + 1] end
  end
  for i = 10, #ARGV, 2 do
    if at[ARGV[i]] == 0 then
      local n = #all
      all[n + 1], all[n + 2], at[ARGV[i]] = ARGV[i], '0', n + 2
    end
  end
else
  local names = {'@v', '@i', '@p', '@g'}
  for i = 10, #ARGV, 2 do names[#names + 1] = ARGV[i] end
  local values = call('HMGET', cart, unpack(names))
  version, incarnation, pending, guest = values[1] or '0', values[2] or '', values[3] or '', values[4] or ''
  for i = 5, #names do
    local n = 2 * (i - 4)
    all[n - 1], all[n], at[names[i]] = names[i], values[i] or '0', n
  end
end
local state = string.sub(guest, 1, 1)

-- What is to come of it, unless this is a replay: set are fields and values, gone are fields.
local outcome, set, gone = 'o', {}, {}
if state ~= '' and state ~= 'h' then
  outcome = 'm'
elseif ARGV[6] ~= '' and not string.find(ARGV[6], ',' .. incarnation .. '.' .. version .. ',', 1, true) then
  outcome = 's'
elseif kind == 'c' then
  for _, field in ipairs(call('HKEYS', cart)) do
    if string.sub(field, 1, 1) ~= '@' then gone[#gone + 1] = field end
  end
else
  local fresh, most = 0, tonumber(ARGV[7])
  for i = 10, #ARGV, 2 do
    local had, want = tonumber(all[at[ARGV[i]]]), tonumber(ARGV[i + 1])
    if kind == 'a' then want = had + want end
    if want ~= had then
      if want > most then outcome = 'q' end
      if want == 0 then
        gone[1] = ARGV[i]
      else
        local n = #set
        set[n + 1], set[n + 2] = ARGV[i], tostring(want)
      end
      if had == 0 then fresh = fresh + 1 end
    end
  end
  if fresh > 0 and outcome == 'o' then
    local lines = fields or call('HLEN', cart)
    if version ~= '0' then lines = lines - 2 end
    if pending ~= '' then lines = lines - 1 - tonumber(pending) end
    if guest ~= '' then lines = lines - 1 end
    if lines + fresh > tonumber(ARGV[8]) then outcome = 'l' end
  end
end
local changed = outcome == 'o' and (set[1] or gone[1])
local led_to = changed and tostring(version + 1) or version

-- The record is looked up and made in one; nothing that follows can fail.
local record, replayed
if outcome == 'm' then
  record = call('GET', op)
else
  record = call('SET', op, ARGV[2] .. outcome .. led_to, 'PX', ARGV[3], 'NX', 'GET')
end
if record and string.sub(record, 1, 8) ~= ARGV[2] then
  outcome, led_to = 'r', '0'
elseif record then
  outcome, led_to, replayed = string.sub(record, 9, 9), string.sub(record, 10), '1'
elseif outcome == 'm' then
  led_to = '0'
elseif changed then
  for i = 1, #set, 2 do all[at[set[i]]] = set[i + 1] end
  for i = 1, #gone, 100 do call('HDEL', cart, unpack(gone, i, math.min(i + 99, #gone))) end
  if kind == 'c' then
    all = {}
  elseif gone[1] then
    all[at[gone[1]]] = '0'
  end
  version = led_to
  if incarnation == '' then
    incarnation = ARGV[5]
    set[#set + 1], set[#set + 2] = '@i', incarnation
  end
  call('HSET', cart, '@v', version, unpack(set))
  -- A cart with a merge under way does not expire.
  if pending == '' and state == '' then call('PEXPIRE', cart, ARGV[4]) end
end

if pending ~= '' or guest ~= '' then
  -- A merge id is any bytes.
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 1) == '@' then all[i], all[i + 1] = '@', '' end
  end
end
return outcome .. ' ' .. led_to .. ' ' .. (replayed or '0') .. ' ' .. version .. ' ' .. incarnation .. ' ' .. pending .. ' ' .. state ..
  ' ' .. call('PEXPIRETIME', cart) .. ' ' .. table.concat(all, ' ')
