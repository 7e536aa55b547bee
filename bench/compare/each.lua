-- A different object for each request, so that nothing which is remembered of one serves another.
dofile(os.getenv("COMPARE_LIBRARY") .. "/report.lua")

local OBJECTS = 100000
local number = 0

request = function()
  number = (number + 1) % OBJECTS
  return wrk.format(nil, string.format("%s-%05d", wrk.path, number))
end
