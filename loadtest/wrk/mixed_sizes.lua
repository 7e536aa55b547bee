-- Objects of 1 KiB, 64 KiB and 1 MiB on the same connections: small answers behind large ones.
dofile(os.getenv("WRK_LIBRARY") .. "/report.lua")

function request()
  local chance = math.random(100)
  local size = chance <= 80 and "1k" or chance <= 98 and "64k" or "1m"
  return wrk.format("GET", "/public/" .. size)
end
