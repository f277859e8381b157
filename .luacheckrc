-- Scripts run inside Redis 7 or Valkey: Lua 5.1 without io, os and require.
std = "lua51"
max_line_length = 120
read_globals = {
  "redis", "server", "KEYS", "ARGV", "cjson", "cmsgpack", "bit", "struct",
}
