/** A speaker-embedding network in WebAssembly. It runs in pages, in workers and in node. */

const ERRORS = {
  [-1]: 'there are no features or samples',
  [-2]: 'the utterance is shorter than the network needs',
  [-3]: 'the utterance is too long',
  [-6]: 'the model has no front end: give it features',
};
const NO_ENGINE =
  'this browser cannot run the engine, which needs WebAssembly SIMD' +
  ' (Chrome 91, Firefox 89, Safari 16.4, or newer)';
const NODE_FILES = 'node:fs/promises'; // by a name, so that bundlers for browsers leave it alone
const ALIGNMENT = 64;
const PAGE = 65536;
/** Where the header of a model has its numbers, in words of 32 bits. */
const HEADER = {version: 1, featureDim: 2, embeddingDim: 3, sampleRate: 4, frontEnd: 15, words: 16};
const MAGIC = 0x59465053;
const VERSION = 3;

/** Reads a file beside a page or, in node, on disk. */
async function fetchFile(url, integrity = '') {
  if (url.protocol === 'file:') {
    const {readFile} = await import(/* webpackIgnore: true */ /* @vite-ignore */ NODE_FILES);
    return readFile(url);
  }
  let response;
  try {
    // Asking whether it has changed keeps a cache from mixing the files of two exports.
    response = await fetch(url, {cache: 'no-cache', integrity});
  } catch (error) {
    const reason = integrity ? 'it is missing, or of another export' : error.message;
    throw new Error(`${url} cannot be read: ${reason}`);
  }
  if (!response.ok) throw new Error(`${url} cannot be read: the server answers ${response.status}`);
  return response.arrayBuffer();
}

const aligned = (address) => Math.ceil(address / ALIGNMENT) * ALIGNMENT;

export class Model {
  #exports;
  #blob;
  #free; // where the memory of a call begins

  /**
   * @param {WebAssembly.Instance} instance of engine.wasm
   * @param {Uint8Array} weights what weights.bin holds
   */
  constructor(instance, weights) {
    this.#exports = instance.exports;
    this.#blob = aligned(this.#exports.__heap_base.value);
    this.#free = aligned(this.#blob + weights.byteLength);
    this.#reserve(this.#free + 4 * HEADER.words);
    const {buffer} = this.#exports.memory;
    new Uint8Array(buffer).set(weights, this.#blob);
    const header = new Int32Array(buffer, this.#blob, HEADER.words);
    if (header[0] !== MAGIC) throw new Error('the weights are no model');
    if (header[HEADER.version] !== VERSION) {
      throw new Error('the weights are of another version of sparsify: export the model again');
    }
    this.featureDim = header[HEADER.featureDim];
    this.embeddingDim = header[HEADER.embeddingDim];
    this.sampleRate = header[HEADER.frontEnd] ? header[HEADER.sampleRate] : 0;
  }

  /** Embeds features, one frame after the other. */
  embed(feats) {
    const frames = feats.length / this.featureDim;
    if (!Number.isInteger(frames)) {
      throw new Error(`features are a multiple of ${this.featureDim} numbers, not ${feats.length}`);
    }
    return this.#call(this.#exports.sparsify_blob_embed, feats, frames, frames);
  }

  /** Embeds samples in [-1, 1], `sampleRate` a second. */
  embedAudio(samples) {
    if (!this.sampleRate) throw new Error(ERRORS[-6]);
    const frames = this.#exports.sparsify_blob_frames(this.#blob, samples.length);
    return this.#call(this.#exports.sparsify_blob_embed_audio, samples, samples.length, frames);
  }

  #call(embed, input, count, frames) {
    if (frames < 1) throw new Error(ERRORS[-2]);
    const bytes = this.#exports.sparsify_blob_workspace(this.#blob, frames, 1) >>> 0;
    if (!bytes) throw new Error(ERRORS[-3]);
    const at = this.#free;
    const embedding = aligned(at + 4 * input.length);
    const workspace = aligned(embedding + 4 * this.embeddingDim);
    this.#reserve(workspace + bytes);
    const floats = new Float32Array(this.#exports.memory.buffer);
    floats.set(input, at / 4);
    const code = embed(this.#blob, at, count, workspace, bytes, embedding);
    if (code) throw new Error(ERRORS[code] ?? `the engine fails with error ${code}`);
    return floats.slice(embedding / 4, embedding / 4 + this.embeddingDim);
  }

  /** Makes the memory at least so long. */
  #reserve(bytes) {
    const {memory} = this.#exports;
    const missing = Math.ceil((bytes - memory.buffer.byteLength) / PAGE);
    if (missing <= 0) return;
    try {
      memory.grow(missing);
    } catch {
      throw new Error(ERRORS[-3]);
    }
  }
}

/**
 * Reads a model: `engine.wasm` and `weights.bin` in a folder, which by default is this file's.
 * @param {string | URL} folder
 * @param {{integrity?: string}} options what `weights.bin` must be, as in `integrity` of `fetch`
 */
export async function read(folder = import.meta.url, {integrity} = {}) {
  const base = new URL(folder, globalThis.location?.href ?? import.meta.url);
  if (folder !== import.meta.url && !base.pathname.endsWith('/')) base.pathname += '/';
  const [engine, weights] = await Promise.all([
    fetchFile(new URL('engine.wasm', base)),
    fetchFile(new URL('weights.bin', base), integrity),
  ]);
  return {engine, weights};
}

/** Makes a model of what `read` gives, on whichever thread. */
export async function build({engine, weights}) {
  if (!WebAssembly.validate(engine)) throw new Error(NO_ENGINE);
  const {instance} = await WebAssembly.instantiate(engine, {});
  return new Model(instance, new Uint8Array(weights));
}

/** Reads a model and makes it. */
export async function load(folder, options) {
  return build(await read(folder, options));
}

/** The cosine of two embeddings: 1 for the same direction, 0 where one is zero and has none. */
export function cosine(a, b) {
  let product = 0;
  let one = 0;
  let other = 0;
  for (let i = 0; i < a.length; i++) {
    product += a[i] * b[i];
    one += a[i] * a[i];
    other += b[i] * b[i];
  }
  return product / (Math.sqrt(one * other) || 1);
}
