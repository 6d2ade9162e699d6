// Packs the messages of docs/frames.json as the example's client does, and prints the names of those that differ.

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [example, frames] = process.argv.slice(2);
const { Float, frame, pack, unpack } = await import(pathToFileURL(example).href);

function own(value) {
  if (Array.isArray(value)) return value.map(own);
  if (value === null || typeof value !== "object") return value;
  if ("$bytes" in value) return Buffer.from(value.$bytes, "hex");
  if ("$float" in value) return new Float(value.$float);
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, own(field)]));
}

const plain = (value) => JSON.stringify(value, (_, field) => (field instanceof Float ? field.value : field));
const golden = JSON.parse(readFileSync(frames, "utf8"));
for (const { name, message, frame: hex } of [...golden.requests, ...golden.replies]) {
  const sent = own(message);
  if (frame(sent).toString("hex") !== hex) console.log(`${name}: packed otherwise`);
  if (plain(unpack(Buffer.from(hex, "hex").subarray(4))) !== plain(sent)) console.log(`${name}: unpacked otherwise`);
}
for (const value of [0, 127, 128, 255, 256, 65535, 65536, 2 ** 32, 2 ** 40, -1, -32, -33, -129, -(2 ** 31), -(2 ** 40)]) {
  if (unpack(pack(value)) !== value) console.log(`${value}: unpacked otherwise`);
}
for (const length of [0, 15, 16, 31, 32, 255, 256, 65535, 65536]) {
  for (const value of ["x".repeat(length), Buffer.alloc(length), Array(length).fill(1)]) {
    if (plain(unpack(pack(value))) !== plain(value)) console.log(`${typeof value} of ${length}: unpacked otherwise`);
  }
}
