-- Watches each answer on its way to the client and leaves in the dynamic metadata, for the access log:
--   streaming            is it a stream of server-sent events (bool)
--   events               "data:" events so far, "[DONE]" and the usage event included (number)
--   first_event_seconds  when the first event passed, Unix time (number)
--   usage                the last "usage" object, as JSON text (string)
--   done                 has "[DONE]" passed (bool)
-- Nothing is delayed or buffered but the text of the last chunks. Progress is stored now and then, not only at the end,
-- because a client that hangs up ends the script at a yield.

local NAMESPACE = "pointsman.tokens"
local KEPT_BYTES = 4096
local PUT_EVERY_EVENTS = 16

local find, match, sub, concat = string.find, string.match, string.sub, table.concat

-- Envoy's objects are dead after each yield, so the metadata is fetched anew for each put.
local function put(handle, values)
  local metadata = handle:streamInfo():dynamicMetadata()
  for key, value in pairs(values) do
    metadata:set(NAMESPACE, key, value)
  end
end

local function now_seconds(handle)
  return tonumber(handle:timestampString(EnvoyTimestampResolution.MICROSECOND)) / 1e6
end

-- The end of the text, at least KEPT_BYTES of it if there were so many, as a queue of chunks.
local function keep(kept, text)
  kept.last = kept.last + 1
  kept[kept.last] = text
  kept.bytes = kept.bytes + #text
  while kept.bytes - #kept[kept.first] >= KEPT_BYTES do
    kept.bytes = kept.bytes - #kept[kept.first]
    kept[kept.first] = nil
    kept.first = kept.first + 1
  end
end

-- A quote inside a JSON string is escaped, so `"usage":` can only be a key.
local function last_usage(text)
  local usage = nil
  local start = find(text, '"usage"', 1, true)
  while start do
    usage = match(text, '^%s*:%s*(%b{})', start + 7) or usage
    start = find(text, '"usage"', start + 7, true)
  end
  return usage
end

local function watch_json(handle)
  local kept = {first = 1, last = 0, bytes = 0}
  for chunk in handle:bodyChunks() do
    local length = chunk:length()
    local size = length < KEPT_BYTES and length or KEPT_BYTES
    keep(kept, chunk:getBytes(length - size, size))
  end
  put(handle, {streaming = false, usage = last_usage(concat(kept, "", kept.first, kept.last))})
end

local function watch_events(handle)
  local kept = {first = 1, last = 0, bytes = 0}
  local events, stored = 0, 0
  local border = "\n"  -- where a "\ndata:" cut in two begins: the last five bytes; a body begins as a line does

  local function put_state()
    local text = concat(kept, "", kept.first, kept.last)
    local done = find(text, "\ndata: ?%[DONE%]") ~= nil
    put(handle, {events = events, usage = last_usage(text), done = done})
  end

  put(handle, {streaming = true, events = 0, done = false})
  for chunk in handle:bodyChunks() do
    local text = chunk:getBytes(0, chunk:length())
    keep(kept, text)
    text = border .. text
    border = sub(text, -5)

    local before, ending = events, false
    local _, stop = find(text, "\ndata:", 1, true)
    while stop do
      events = events + 1
      ending = ending or find(text, "^ ?%[DONE%]", stop + 1) ~= nil
      _, stop = find(text, "\ndata:", stop + 1, true)
    end

    if before == 0 and events > 0 then
      put(handle, {events = events, first_event_seconds = now_seconds(handle)})
      stored = events
    end
    if ending then
      put_state()  -- many clients hang up here, before the stream's end
    elseif events - stored >= PUT_EVERY_EVENTS then
      put(handle, {events = events})
      stored = events
    end
  end
  put_state()
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local content_type = headers:get("content-type") or ""
  if headers:get("content-encoding") then
    return
  elseif find(content_type, "text/event-stream", 1, true) == 1 then
    watch_events(handle)
  elseif find(content_type, "json", 1, true) then
    watch_json(handle)
  end
end
