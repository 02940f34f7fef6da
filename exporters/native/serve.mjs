// Embeds what comes through a pipe, as serve.c does: node serve.mjs FOLDER
import {writeSync} from 'node:fs';
import {pathToFileURL} from 'node:url';
import {load} from './web/model.js';

const TOO_SHORT = -2;
const model = await load(pathToFileURL(process.argv[2]));
let parts = [];
let length = 0;

function take(bytes) {
  const all = Buffer.concat(parts);
  parts = [all.subarray(bytes)];
  length -= bytes;
  return all.subarray(0, bytes);
}

function answer(feats) {
  const reply = new ArrayBuffer(4 + 4 * model.embeddingDim);
  try {
    new Float32Array(reply, 4).set(model.embed(feats));
  } catch {
    new Int32Array(reply, 0, 1)[0] = TOO_SHORT;
  }
  const bytes = new Uint8Array(reply);
  for (let done = 0; done < bytes.length; ) done += writeSync(1, bytes, done);
}

let wanted = 0; // bytes of features; 0 before their number is known
for await (const part of process.stdin) {
  parts.push(part);
  length += part.length;
  for (;;) {
    if (!wanted) {
      if (length < 4) break;
      wanted = 4 * model.featureDim * take(4).readInt32LE();
    }
    if (length < wanted) break;
    answer(new Float32Array(new Uint8Array(take(wanted)).buffer));
    wanted = 0;
  }
}
