-- One object of 1 KiB, as fast as it goes: the cost of a request, not of its body.
dofile(os.getenv("WRK_LIBRARY") .. "/report.lua")

function request()
  return wrk.format("GET", "/public/1k")
end
