// Calls functions of a WebAssembly module for tests, as remote.c does: node remote.mjs MODULE
import {readFileSync, readSync, writeSync} from 'node:fs';

const NUMBER = 0;
const WRITTEN = 2;
const ALIGNMENT = 64;
const PAGE = 65536;
const {instance} = await WebAssembly.instantiate(readFileSync(process.argv[2]), {});
const {memory, __heap_base: heap} = instance.exports;

/** The next bytes of standard input, or nothing at its end. */
function receive(size) {
  const bytes = Buffer.alloc(size);
  for (let done = 0; done < size; ) {
    const count = readSync(0, bytes, done, size - done);
    if (!count) return undefined;
    done += count;
  }
  return bytes;
}

function send(bytes) {
  for (let done = 0; done < bytes.length; ) done += writeSync(1, bytes, done);
}

const aligned = (address) => Math.ceil(address / ALIGNMENT) * ALIGNMENT;

for (;;) {
  const sizes = receive(8);
  if (!sizes) break;
  const name = receive(sizes.readInt32LE(0)).toString();
  let free = aligned(heap.value);
  const written = [];
  const values = [];
  for (let i = 0; i < sizes.readInt32LE(4); i++) {
    const given = receive(16);
    const kind = given.readInt32LE(0);
    const value = Number(given.readBigInt64LE(8));
    if (kind === NUMBER) {
      values.push(value);
      continue;
    }
    const at = free + given.readInt32LE(4);
    free = aligned(at + value);
    const missing = free - memory.buffer.byteLength;
    if (missing > 0) memory.grow(Math.ceil(missing / PAGE));
    new Uint8Array(memory.buffer).set(receive(value), at);
    values.push(at);
    if (kind === WRITTEN) written.push([at, value]);
  }
  const result = Buffer.alloc(4);
  result.writeInt32LE(instance.exports[name](...values) ?? 0);
  send(result);
  for (const [at, size] of written) send(new Uint8Array(memory.buffer, at, size));
}
