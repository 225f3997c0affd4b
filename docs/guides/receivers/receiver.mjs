// Receives webhooks: proves each, keeps it, answers at once, works later.
//
//   npm install standardwebhooks
//   WEBHOOK_KEYS='whsec_…' node receiver.mjs 8002
//
// WEBHOOK_KEYS: the secret of the webhook, or its public key (whpk_…); where there are several, with spaces between.

import { fsyncSync, openSync, readFileSync, writeSync } from "node:fs";
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";
import { PublicKey } from "./ed25519.mjs";

const keys = process.env.WEBHOOK_KEYS.split(" ").map((key) => (key.startsWith("whpk_") ? new PublicKey(key) : new Webhook(key)));
const path = process.env.WEBHOOK_INBOX ?? "inbox.ndjson";
const mostBytes = 1_000_000;

// Your part. Where it throws, it is called again later, with the same event.
async function handle(event) {
  console.log("handled", event.type, event.data.id);
}

async function receive(request, response) {
  const body = request.method === "POST" ? await read(request) : null;
  if (body === null) {
    return response.writeHead(413, { connection: "close" }).end("no POST, or a body that is too long");
  }
  if (!proved(body, request.headers)) {
    return response.writeHead(401).end("not signed by whom we expect, or not just now");
  }
  const isNew = keep(request.headers["webhook-id"], JSON.parse(body));
  response.writeHead(isNew ? 202 : 200).end(isNew ? "kept" : "known already");
  work();
}

// The bytes as they came: what was parsed and written anew has another signature.
async function read(request) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    size += part.length;
    if (size > mostBytes) return null;
    parts.push(part);
  }
  return Buffer.concat(parts);
}

// Whether the holder of one of the keys sent exactly this, in the last five minutes.
function proved(body, headers) {
  return keys.some((key) => {
    try {
      key.verify(body, headers, { jsonParse: false });
      return true;
    } catch {
      return false;
    }
  });
}

// The inbox: a file with a line for what came and a line for what is done. One process; where you have several, a table with a unique id.
const known = new Set();
const waiting = new Map();
const file = openSync(path, "a+");

function remember({ id, event }) {
  known.add(id);
  if (event) waiting.set(id, event);
  else waiting.delete(id);
}

function write(entry) {
  // The end of a line comes first: a line that a crash cut short stays alone.
  writeSync(file, `\n${JSON.stringify(entry)}`);
  fsyncSync(file);
  remember(entry);
}

// Write it down, once. False for what is there already: a delivery repeated, by us or by a thief.
function keep(id, event) {
  if (known.has(id)) return false;
  write({ id, event });
  return true;
}

let working = false;

// Handle what was kept, in the order in which it came; after a restart as well.
async function work() {
  if (working) return;
  working = true;
  try {
    for (const [id, event] of waiting) {
      await handle(event);
      write({ id });
    }
  } catch (error) {
    console.error("it is tried again in ten seconds:", error);
    setTimeout(work, 10_000);
  }
  working = false;
}

for (const line of readFileSync(path, "utf8").split("\n")) {
  try {
    remember(JSON.parse(line));
  } catch {
    // Cut short by a crash: whoever sent it got no answer, and sends it again.
  }
}
// Where a sender goes away in the middle there is nobody to answer.
const server = createServer((request, response) => receive(request, response).catch(() => response.destroy()));
// More than senders keep a connection that rests: whoever closes first can lose a request that was on its way.
server.keepAliveTimeout = 90_000;
server.listen(Number(process.argv[2]), "127.0.0.1", work);
