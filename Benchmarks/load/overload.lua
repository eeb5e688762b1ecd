-- wrk: posts one completion after the other, and tells how they were answered, by status.
--
--   wrk -c CONNECTIONS -t 1 -d SECONDS -s overload.lua http://127.0.0.1:PORT/v1/completions -- TOKENS
local counts = {}
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  local tokens = args[1] or "32"
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.body = '{"prompt":"It was a dark and stormy night","temperature":0,"max_tokens":' .. tokens .. "}"
  statuses = ""
end

function response(status)
  counts[status] = (counts[status] or 0) + 1
  local parts = {}
  for code, count in pairs(counts) do
    table.insert(parts, string.format('"%d":%d', code, count))
  end
  statuses = table.concat(parts, ",")
end

function done(summary, latency)
  local found = {}
  for _, thread in ipairs(threads) do
    table.insert(found, "{" .. thread:get("statuses") .. "}")
  end
  io.write(
    string.format(
      '\n{"statuses":[%s],"requests":%d,"seconds":%.3f,"connect_errors":%d,"read_errors":%d,"write_errors":%d,"timeouts":%d}\n',
      table.concat(found, ","), summary.requests, summary.duration / 1e6, summary.errors.connect, summary.errors.read,
      summary.errors.write, summary.errors.timeout
    )
  )
end
