-- Rate limits of several accounts in one atomic step: the arithmetic of reference.policy.rate_limits, in doubles.
--
-- KEYS  three of each account: its buckets (a hash), its leases and its late leases (sorted sets by expiry)
-- ARGV  1 what to do: reserve, settle, refund, renew or peek    2 now in microseconds, empty: this server's clock
--       3 how long a lease lasts, microseconds                  4 the reservation, `id:tokens`
--       5 tokens: to reserve, or that were used
--       from 6 on five of each account: request rate and burst, token rate and burst in micro-units, concurrency;
--       -1 is no such limit
-- Returns {1, left...} or {0, account, what, wait in microseconds or -1, left...}; left is two numbers an account, whole
-- requests and tokens, -1 where there is no such limit. What is 1 concurrency, 2 requests, 3 tokens.
--
-- A reservation holds a lease at each account until it is closed. One whose lease runs out, because its gateway is gone,
-- is given back as of that moment; when it is settled within an hour after all, it is taken again.

local MICRO, HOUR, LATE = 1000000, 3600000000, 3600000000
local action, now, lasts, member, tokens = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * MICRO + tonumber(time[2])
end

local function give(bucket, amount)
  if bucket.rate < 0 then return end
  bucket.level = bucket.level + amount
  if bucket.level >= bucket.burst then bucket.level, bucket.carry = bucket.burst, 0 end
end

local function refill(bucket, elapsed)
  if bucket.rate < 0 then return end
  local whole = math.floor(bucket.rate / MICRO)
  local rest = bucket.rate - whole * MICRO
  while elapsed > 0 do
    local step = math.min(elapsed, HOUR)
    local gained = rest * step + bucket.carry
    bucket.carry = gained % MICRO
    give(bucket, whole * step + math.floor(gained / MICRO))
    elapsed = elapsed - step
  end
end

-- Long division by two digits of a thousand: a product with a million could be more than a double holds.
local function wait(bucket, amount)
  local missing = amount - bucket.level
  if bucket.rate < 0 or missing <= 0 then return 0 end
  if amount > bucket.burst or bucket.rate == 0 then return -1 end
  local rate = bucket.rate
  local seconds = math.floor(missing / rate)
  local rest = (missing - seconds * rate) * 1000
  local high = math.floor(rest / rate)
  rest = (rest - high * rate) * 1000
  local low = math.floor(rest / rate)
  rest = rest - low * rate - bucket.carry
  return seconds * MICRO + high * 1000 + low - math.floor(-rest / rate)
end

local function bucket(state, name, rate, burst)
  rate, burst = tonumber(rate), tonumber(burst)
  return {
    rate = rate, burst = burst,
    level = math.min(burst, tonumber(state[name .. '_level'] or burst)), carry = tonumber(state[name .. '_carry'] or 0),
  }
end

local function pass(account, to)
  if to <= account.at then return end
  refill(account.requests, to - account.at)
  refill(account.tokens, to - account.at)
  account.at = to
end

local function load(place)
  local raw, state, first = redis.call('HGETALL', KEYS[3 * place - 2]), {}, 5 * place + 1
  for index = 1, #raw, 2 do state[raw[index]] = raw[index + 1] end
  local account = {
    key = KEYS[3 * place - 2], leases = KEYS[3 * place - 1], late = KEYS[3 * place], at = tonumber(state.at or now),
    requests = bucket(state, 'requests', ARGV[first], ARGV[first + 1]),
    tokens = bucket(state, 'tokens', ARGV[first + 2], ARGV[first + 3]), concurrency = tonumber(ARGV[first + 4]),
  }
  local ended = redis.call('ZRANGEBYSCORE', account.leases, '-inf', now, 'WITHSCORES')
  for index = 1, #ended, 2 do
    pass(account, tonumber(ended[index + 1]))
    give(account.requests, MICRO)
    give(account.tokens, tonumber(string.match(ended[index], ':(%d+)$')) * MICRO)
    redis.call('ZREM', account.leases, ended[index])
    redis.call('ZADD', account.late, tonumber(ended[index + 1]) + LATE, ended[index])
  end
  redis.call('ZREMRANGEBYSCORE', account.late, '-inf', now)
  pass(account, now)
  return account
end

local function until_full(bucket)
  if bucket.rate < 0 then return 0 end
  if bucket.rate == 0 then return 720 * HOUR end
  return (bucket.burst - bucket.level) / bucket.rate * MICRO
end

local function store(account)
  redis.call('HSET', account.key, 'at', string.format('%.0f', account.at),
    'requests_level', string.format('%.0f', account.requests.level), 'requests_carry', account.requests.carry,
    'tokens_level', string.format('%.0f', account.tokens.level), 'tokens_carry', account.tokens.carry)
  -- a full bucket and none are the same; the lease may end later than that
  local needed = math.max(until_full(account.requests), until_full(account.tokens), lasts + LATE)
  local milliseconds = string.format('%.0f', math.ceil(math.min(needed, 720 * HOUR) / 1000) + 60000)
  redis.call('PEXPIRE', account.key, milliseconds)
  redis.call('PEXPIRE', account.leases, milliseconds)
  redis.call('PEXPIRE', account.late, milliseconds)
end

local function left(answer, accounts)
  for _, account in ipairs(accounts) do
    for _, one in ipairs({account.requests, account.tokens}) do
      table.insert(answer, one.rate < 0 and -1 or math.max(0, math.floor(one.level / MICRO)))
    end
  end
  return answer
end

local accounts = {}
for place = 1, #KEYS / 3 do accounts[place] = load(place) end

local function refusal()
  for place, account in ipairs(accounts) do
    if account.concurrency >= 0 and redis.call('ZCARD', account.leases) >= account.concurrency then
      return {0, place, 1, MICRO}
    end
    local early = wait(account.requests, MICRO)
    if early ~= 0 then return {0, place, 2, early} end
    local missing = wait(account.tokens, tokens * MICRO)
    if missing ~= 0 then return {0, place, 3, missing} end
  end
end

local answer = {1}
if action == 'reserve' then
  answer = refusal() or answer
  if answer[1] == 1 then
    for _, account in ipairs(accounts) do
      account.requests.level = account.requests.level - MICRO
      account.tokens.level = account.tokens.level - tokens * MICRO
      redis.call('ZADD', account.leases, now + lasts, member)
    end
  end
elseif action == 'renew' then
  for _, account in ipairs(accounts) do redis.call('ZADD', account.leases, 'XX', now + lasts, member) end
elseif action ~= 'peek' then
  local reserved = tonumber(string.match(member, ':(%d+)$'))
  for _, account in ipairs(accounts) do
    local was_held = redis.call('ZREM', account.leases, member) == 1
    local was_late = redis.call('ZREM', account.late, member) == 1
    if action == 'settle' and was_held then
      give(account.tokens, (reserved - tokens) * MICRO)
    elseif action == 'settle' and was_late then
      give(account.requests, -MICRO)
      give(account.tokens, -tokens * MICRO)
    elseif was_held then
      give(account.requests, MICRO)
      give(account.tokens, reserved * MICRO)
    end
  end
end
for _, account in ipairs(accounts) do store(account) end
return left(answer, accounts)
