// Asks a server for the matches of a file, in JavaScript without packages:
//     node examples/query.mjs 127.0.0.1:7700 take.flac [TOKEN]
// docs/protocol.md describes the protocol; docs/frames.json holds frames to test a client against.

import { readFile } from "node:fs/promises";
import { connect } from "node:net";
import { basename } from "node:path";
import { pathToFileURL } from "node:url";

// --- msgpack: the types that the protocol uses -----------------------------------------------------------------------

function sized(length, small, codes) {
  // The head of a text, a list, a map or bytes: `small` holds a length below its limit in one byte.
  if (small && length < small.limit) return Buffer.from([small.code | length]);
  for (const [code, bytes] of codes) {
    if (length < 2 ** (8 * bytes)) {
      const head = Buffer.alloc(1 + bytes);
      head[0] = code;
      head.writeUIntBE(length, 1, bytes);
      return head;
    }
  }
  throw new RangeError(`${length} is too long`);
}

function integer(value) {
  if (value >= 0 && value < 0x80) return Buffer.from([value]);
  if (value < 0 && value >= -32) return Buffer.from([0x100 + value]);
  const sizes = value < 0 ? [[0xd0, 1], [0xd1, 2], [0xd2, 4]] : [[0xcc, 1], [0xcd, 2], [0xce, 4]];
  for (const [code, bytes] of sizes) {
    const [low, high] = value < 0 ? [-(2 ** (8 * bytes - 1)), 0] : [0, 2 ** (8 * bytes)];
    if (value >= low && value < high) {
      const data = Buffer.alloc(1 + bytes);
      data[0] = code;
      if (value < 0) data.writeIntBE(value, 1, bytes);
      else data.writeUIntBE(value, 1, bytes);
      return data;
    }
  }
  const data = Buffer.alloc(9);
  data[0] = value < 0 ? 0xd3 : 0xcf;
  if (value < 0) data.writeBigInt64BE(BigInt(value), 1);
  else data.writeBigUInt64BE(BigInt(value), 1);
  return data;
}

export class Float {
  // A number that is sent as a float though it is whole, such as a deadline of 2.0 seconds.
  constructor(value) {
    this.value = value;
  }
}

function float(value) {
  const data = Buffer.alloc(9);
  data[0] = 0xcb;
  data.writeDoubleBE(value, 1);
  return data;
}

export function pack(value) {
  if (value === null || value === undefined) return Buffer.from([0xc0]);
  if (typeof value === "boolean") return Buffer.from([value ? 0xc3 : 0xc2]);
  if (value instanceof Float) return float(value.value);
  if (typeof value === "number") return Number.isInteger(value) ? integer(value) : float(value);
  if (typeof value === "string") {
    const data = Buffer.from(value, "utf8");
    return Buffer.concat([sized(data.length, { limit: 32, code: 0xa0 }, [[0xd9, 1], [0xda, 2], [0xdb, 4]]), data]);
  }
  if (value instanceof Uint8Array) {
    return Buffer.concat([sized(value.length, null, [[0xc4, 1], [0xc5, 2], [0xc6, 4]]), value]);
  }
  if (Array.isArray(value)) {
    return Buffer.concat([sized(value.length, { limit: 16, code: 0x90 }, [[0xdc, 2], [0xdd, 4]]), ...value.map(pack)]);
  }
  const fields = Object.entries(value);
  const head = sized(fields.length, { limit: 16, code: 0x80 }, [[0xde, 2], [0xdf, 4]]);
  return Buffer.concat([head, ...fields.flatMap(([name, field]) => [pack(name), pack(field)])]);
}

export function unpack(data) {
  let place = 0;
  const take = (bytes) => data.subarray(place, (place += bytes));
  const whole = (bytes) => take(bytes).readUIntBE(0, bytes);
  const text = (length) => take(length).toString("utf8");
  const list = (length) => Array.from({ length }, next);
  const map = (length) => Object.fromEntries(Array.from({ length }, () => [next(), next()]));

  function next() {
    const code = whole(1);
    if (code < 0x80) return code;
    if (code < 0x90) return map(code & 0x0f);
    if (code < 0xa0) return list(code & 0x0f);
    if (code < 0xc0) return text(code & 0x1f);
    if (code >= 0xe0) return code - 0x100;
    switch (code) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: return take(whole(1));
      case 0xc5: return take(whole(2));
      case 0xc6: return take(whole(4));
      case 0xca: return take(4).readFloatBE();
      case 0xcb: return take(8).readDoubleBE();
      case 0xcc: return whole(1);
      case 0xcd: return whole(2);
      case 0xce: return whole(4);
      case 0xcf: return Number(take(8).readBigUInt64BE());
      case 0xd0: return take(1).readInt8();
      case 0xd1: return take(2).readInt16BE();
      case 0xd2: return take(4).readInt32BE();
      case 0xd3: return Number(take(8).readBigInt64BE());
      case 0xd9: return text(whole(1));
      case 0xda: return text(whole(2));
      case 0xdb: return text(whole(4));
      case 0xdc: return list(whole(2));
      case 0xdd: return list(whole(4));
      case 0xde: return map(whole(2));
      case 0xdf: return map(whole(4));
      default: throw new TypeError(`no value of this protocol begins with ${code}`);
    }
  }
  return next();
}

// --- the protocol ----------------------------------------------------------------------------------------------------

export function frame(message) {
  const payload = pack(message);
  const head = Buffer.alloc(4);
  head.writeUInt32BE(payload.length);
  return Buffer.concat([head, payload]);
}

export class Client {
  // One connection. Any number of requests may wait for their replies.
  constructor(host, port, token) {
    this.waiting = new Map();
    this.sent = 0;
    this.token = token;
    this.received = Buffer.alloc(0);
    this.socket = connect(port, host);
    this.socket.on("data", (data) => this.take(data));
    this.socket.on("error", (error) => this.fail(error));
    this.socket.on("close", () => this.fail(new Error("the server has closed the connection")));
    if (token) this.request("ping").catch(() => {}); // before it has seen the token, a server takes small messages only
  }

  request(op, fields = {}) {
    const id = ++this.sent;
    const token = this.token ? { token: this.token } : {};
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.socket.write(frame({ v: 1, id, op, ...token, ...fields }));
    });
  }

  take(data) {
    this.received = Buffer.concat([this.received, data]);
    while (this.received.length >= 4) {
      const end = 4 + this.received.readUInt32BE(0);
      if (this.received.length < end) return;
      this.settle(unpack(this.received.subarray(4, end)));
      this.received = this.received.subarray(end);
    }
  }

  settle(reply) {
    const error = reply.error && new Error(`${reply.error.code}: ${reply.error.message}`);
    if (reply.id === null) return this.fail(error);
    const asked = this.waiting.get(reply.id);
    this.waiting.delete(reply.id);
    if (error) asked?.reject(error);
    else asked?.resolve(reply.ok);
  }

  fail(error) {
    for (const asked of this.waiting.values()) asked.reject(error);
    this.waiting.clear();
  }

  close() {
    this.socket.destroy();
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [address, path, token] = process.argv.slice(2);
  const colon = address.lastIndexOf(":");
  const client = new Client(address.slice(0, colon), Number(address.slice(colon + 1)), token);
  const media = [{ name: basename(path), data: await readFile(path) }];
  const { matches } = await client.request("query", { media, top: 3 });
  for (const match of matches) console.log(match.rank, match.id, match.title, match.confidence ?? "");
  client.close();
}
