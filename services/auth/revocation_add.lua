#!lua flags=allow-oom
-- Writes to the stream that sessions of a user have ended, and drops what is
-- old. It does so with no memory left too: a log-out must hold.
--
-- KEYS[1]  revocations, a stream: u, the user's id
-- ARGV[1]  since when entries are kept, ms since 1970
-- ARGV[2]  user id
-- Answers  the entry's id
return redis.call('XADD', KEYS[1], 'MINID', '~', ARGV[1], '*', 'u', ARGV[2])
