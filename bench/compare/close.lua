-- A connection for each request: a pause before each, of random length so that they do not come in crowds,
-- bounds how many there are in a second.
dofile(os.getenv("COMPARE_LIBRARY") .. "/report.lua")

local PAUSE_MS = tonumber(os.getenv("COMPARE_PAUSE_MS"))

delay = function()
  return math.random(0, 2 * PAUSE_MS)
end
