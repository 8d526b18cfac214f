-- Ends a registration: the user stays.
--
-- KEYS[1]  user:{user id}, a hash
-- Answers  1 the user stays, 0 there is no such user any more
if redis.call('HEXISTS', KEYS[1], 'email') == 0 then return 0 end
redis.call('PERSIST', KEYS[1])
return 1
