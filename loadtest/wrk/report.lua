-- What every wrk scenario shares: it counts answers by status and reports one line of JSON.
--
-- A scenario sets `expected` (status -> true) and, if it needs to, `request`. Answers with another
-- status are counted as wrong. Each wrk thread runs a copy of its own.

local threads = {}
wrong = 0
expected = { [200] = true }

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function init(_)
  math.randomseed(20 + number)
  if prepare then prepare() end
end

function response(status)
  if not expected[status] then wrong = wrong + 1 end
end

function done(summary, latency)
  local errors, wrong_in_all = summary.errors, 0
  for _, thread in ipairs(threads) do wrong_in_all = wrong_in_all + thread:get("wrong") end
  io.write(string.format(
    '{"requests":%d,"bytes":%d,"seconds":%.3f,"p50_ms":%.3f,"p99_ms":%.3f,"broken":%d,"wrong":%d}\n',
    summary.requests, summary.bytes, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.timeout, wrong_in_all))
end
