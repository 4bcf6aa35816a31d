-- The HTTP loads for wrk, one mode each, named behind `--`. The last line printed is a JSON object with the counts.

local browser = {
  ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
  ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
  ["Accept-Language"] = "en-US,en;q=0.9,de;q=0.8",
  ["Accept-Encoding"] = "gzip, deflate, br, zstd",
  ["Referer"] = "http://httpfront.tonybai.com/catalog?page=2",
  ["Cookie"] = "session=4f8c1d0e9b7a46d2a3f5; theme=dark; consent=1",
  ["Upgrade-Insecure-Requests"] = "1",
  ["Sec-Fetch-Dest"] = "document",
  ["Sec-Fetch-Mode"] = "navigate",
  ["Sec-Fetch-Site"] = "same-origin",
  ["Sec-Fetch-User"] = "?1",
  ["Cache-Control"] = "max-age=0",
  ["DNT"] = "1",
}

local threads = 0

-- Called for each thread, before its own `init`: threads share no variables.
function setup(thread)
  threads = threads + 1
  thread:set("thread_number", threads)
end

-- A mode changes what `wrk.format` makes of a request, or returns a function that makes each one.
local modes = {}

function modes.small() end

function modes.browser()
  for name, value in pairs(browser) do wrk.headers[name] = value end
end

function modes.connect()
  wrk.headers["Connection"] = "close"
end

-- A path and a cookie that were never seen before, in a browser's request: neither in this run nor in one before.
function modes.unique()
  modes.browser()
  local run = string.format("%x-%d", os.time(), thread_number)
  local count = 0
  return function()
    count = count + 1
    wrk.headers["Cookie"] = string.format("session=%s-%08x; theme=dark; consent=1", run, count)
    return wrk.format("GET", string.format("/item/%s/%d", run, count))
  end
end

-- A browser's request that is always the same, and one never seen before, in turn.
function modes.mixed()
  local fresh = modes.unique()
  local known = wrk.format()
  local turn = false
  return function()
    turn = not turn
    return turn and known or fresh()
  end
end

function modes.bulk()
  wrk.path = "/bulk"
end

function modes.upload()
  wrk.method = "POST"
  wrk.path = "/upload"
  wrk.body = string.rep("x", 1024 * 1024)
end

function init(args)
  local varied = modes[args[1]]()
  local fixed = wrk.format()
  request = varied or function() return fixed end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "errors": %d, "p99_ms": %.3f}\n',
    summary.requests, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(99) / 1e3))
end
