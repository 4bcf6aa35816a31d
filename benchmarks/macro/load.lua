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

local modes = {}

function modes.small() end

function modes.browser()
  for name, value in pairs(browser) do wrk.headers[name] = value end
end

function modes.connect()
  wrk.headers["Connection"] = "close"
end

-- A path and a cookie that were never seen before, in a browser's request.
function modes.unique()
  modes.browser()
  local count = 0
  function request()
    count = count + 1
    wrk.headers["Cookie"] = string.format("session=%020x; theme=dark; consent=1", count)
    return wrk.format("GET", "/item/" .. count)
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
  modes[args[1]]()
  if args[1] ~= "unique" then
    local fixed = wrk.format()
    function request() return fixed end
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "errors": %d, "p99_ms": %.3f}\n',
    summary.requests, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(99) / 1e3))
end
