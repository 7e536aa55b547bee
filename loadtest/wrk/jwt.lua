-- A protected object with many tokens in use at once (they come from a file, one a line), so that both
-- the first sight of a token and its recognition are in the load.
dofile(os.getenv("WRK_LIBRARY") .. "/report.lua")

local tokens = {}

function prepare()
  for token in io.lines(os.getenv("TOKENS_FILE")) do table.insert(tokens, token) end
end

function request()
  return wrk.format("GET", "/private/1k", { Authorization = "Bearer " .. tokens[math.random(#tokens)] })
end
