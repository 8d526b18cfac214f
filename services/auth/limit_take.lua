-- Takes one try, by GCRA: so many at once, then one each interval. A key holds
-- when the tries that were taken will be made up for; a try that is refused changes
-- nothing. Times are Redis' own, the same for every replica.
--
-- With three keys the first is of an account and an address, and the second is
-- shared by all addresses that have not proved to know the password. When that one
-- is spent, an address that has tried lately must wait until it has not; one that
-- has not is taken all the same.
--
-- KEYS[1]  tries
-- KEYS[2]  tries of all who have not proved themselves, or none
-- KEYS[3]  is there if the address has, or none
-- ARGV[1]  interval of the first key, µs
-- ARGV[2]  at once
-- ARGV[3]  interval of the second key, µs
-- ARGV[4]  at once
-- ARGV[5]  how long a try is lately, ms
-- Answers  0 taken, or how long until there is one, µs
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- look answers when the key's tries are made up for, and how long to wait.
local function look(key, interval, most)
  local due = math.max(tonumber(redis.call('GET', key) or 0), now)
  return due, due - (most - 1) * interval - now
end

local function take(key, due, least)
  redis.call('SET', key, string.format('%.0f', due), 'PX', math.max(math.ceil((due - now) / 1000), least))
end

local interval = tonumber(ARGV[1])
local due, wait = look(KEYS[1], interval, tonumber(ARGV[2]))
if wait > 0 then return wait end
if #KEYS == 1 then
  take(KEYS[1], due + interval, 1)
  return 0
end

local lately = tonumber(ARGV[5])
if redis.call('EXISTS', KEYS[3]) == 0 then
  local all = tonumber(ARGV[3])
  local theirs, spent = look(KEYS[2], all, tonumber(ARGV[4]))
  if spent <= 0 then
    take(KEYS[2], theirs + all, 1)
  elseif redis.call('EXISTS', KEYS[1]) == 1 then
    return math.max(math.min(spent, redis.call('PTTL', KEYS[1]) * 1000), 1)
  end
end
take(KEYS[1], due + interval, lately)
return 0
