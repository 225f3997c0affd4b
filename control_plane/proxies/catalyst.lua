-- Catalyst Auth for HAProxy 2.6 or later: `http-request lua.catalyst <sidecar> <headers>` asks the sidecar about a request.
-- A request goes on only where the sidecar answered 200; its headers then take the place of the client's own.

local UNAVAILABLE = 503

-- Of the connection to the client (RFC 9110 section 7.6.1) or of the body, which the sidecar is not sent.
local NOT_ASKED = {
    ["connection"] = true, ["content-length"] = true, ["expect"] = true, ["host"] = true, ["http2-settings"] = true,
    ["keep-alive"] = true, ["proxy-connection"] = true, ["te"] = true, ["trailer"] = true, ["transfer-encoding"] = true,
    ["upgrade"] = true,
}
local NOT_ANSWERED = { ["connection"] = true, ["content-length"] = true, ["keep-alive"] = true, ["transfer-encoding"] = true }

-- The values of one header, in order. HAProxy counts them from 0.
local function values(headers, name)
    local found, given = {}, headers[name]
    local index = 0
    while given ~= nil and given[index] ~= nil do
        found[#found + 1] = given[index]
        index = index + 1
    end
    return found
end

local function refuse(txn, status, reason)
    local reply = txn:reply()
    reply:set_status(status)
    reply:add_header("content-type", "application/json")
    reply:add_header("x-forward-auth-error", reason)
    reply:set_body('{"error":"' .. reason .. '"}\n')
    txn:done(reply)
end

-- The question (forwarded dialect): the client's own headers, and what HAProxy itself knows of the request.
local function question(txn, headers)
    local asked = {}
    for name in pairs(headers) do
        if not NOT_ASKED[name] and name:sub(1, 12) ~= "x-forwarded-" then
            asked[name] = values(headers, name)
        end
    end
    asked["host"] = { "catalyst-sidecar" }
    asked["x-forwarded-method"] = { txn.f:method() }
    asked["x-forwarded-proto"] = { txn.f:ssl_fc() == 1 and "https" or "http" }
    asked["x-forwarded-host"] = values(headers, "host")
    asked["x-forwarded-uri"] = { txn.f:url() }
    asked["x-forwarded-for"] = { txn.f:src() }
    return asked
end

-- The sidecar's refusal as it is: status, headers, body.
local function pass_on(txn, answer)
    local reply = txn:reply()
    reply:set_status(answer.status)
    for name in pairs(answer.headers) do
        if not NOT_ANSWERED[name] then
            for _, value in ipairs(values(answer.headers, name)) do
                reply:add_header(name, value)
            end
        end
    end
    reply:set_body(answer.body or "")
    txn:done(reply)
end

-- Put the answer's headers in the place of the client's own, empty where there is nothing. False where one is not there then as
-- it should be: HAProxy does not say when the room for headers (tune.bufsize, tune.maxrewrite) is used up.
local function identify(txn, names, answer)
    local wanted = {}
    for name in names:gmatch("[^,]+") do
        wanted[name] = values(answer.headers, name)[1] or ""
        txn.http:req_set_header(name, wanted[name])
    end
    local now = txn.http:req_get_headers()
    for name, value in pairs(wanted) do
        local found = values(now, name)
        if #found ~= 1 or found[1] ~= value then
            return false
        end
    end
    return true
end

core.register_action("catalyst", { "http-req" }, function(txn, sidecar, names)
    local headers = txn.http:req_get_headers()
    -- 6 s: for a step of a login the sidecar waits up to 5 s for the control plane.
    -- The URL's address is not asked: `dst` says where the sidecar is.
    local answer = core.httpclient():get({
        url = "http://127.0.0.1/forward-auth/haproxy", dst = sidecar, headers = question(txn, headers), timeout = 6000,
    })
    local status = answer and answer.status or 0
    if not answer or not answer.headers or #values(answer.headers, "x-catalyst-revision") ~= 1 then
        refuse(txn, UNAVAILABLE, "sidecar_unavailable")
    elseif status >= 300 then
        pass_on(txn, answer)
    elseif status ~= 200 then
        refuse(txn, UNAVAILABLE, "sidecar_unavailable")
    elseif not identify(txn, names, answer) then
        refuse(txn, UNAVAILABLE, "headers_too_large")
    end
end, 2)
