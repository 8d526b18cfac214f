#!lua flags=allow-oom
-- Writes to the stream that sessions of a user have ended, and drops what is
-- old. It does so with no memory left too: a log-out must hold.
--
-- KEYS[1]  revocations, a stream: u, the user's id; l, the stream's name
-- ARGV[1]  since when entries are kept, ms since 1970
-- ARGV[2]  user id
-- ARGV[3]  the name that a stream without one gets
-- Answers  the entry's id
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local name = last and last[2][4] or ARGV[3]
return redis.call('XADD', KEYS[1], 'MINID', '~', ARGV[1], '*', 'u', ARGV[2], 'l', name)
