#!lua flags=allow-oom
-- Tells which stream of revocations this is, and how far it has come. Its name
-- goes from entry to entry, so that a stream that was lost takes it along; one
-- without a name gets an entry that names it.
--
-- KEYS[1]  revocations, a stream: u, the user's id; l, the stream's name
-- ARGV[1]  the name that a stream without one gets
-- Answers  {name, id of the last entry}
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if last and last[2][4] then return {last[2][4], last[1]} end
return {ARGV[1], redis.call('XADD', KEYS[1], '*', 'u', '', 'l', ARGV[1])}
