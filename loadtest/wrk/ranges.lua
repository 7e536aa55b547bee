-- Random ranges of an object of 10 MiB, as video players ask for them: every answer is a 206.
dofile(os.getenv("WRK_LIBRARY") .. "/report.lua")

local object_bytes, range_bytes_max = 10485760, 262144
expected = { [206] = true }

function request()
  local first = math.random(0, object_bytes - 1)
  local last = math.min(first + math.random(range_bytes_max) - 1, object_bytes - 1)
  return wrk.format("GET", "/public/10m", { Range = string.format("bytes=%d-%d", first, last) })
end
