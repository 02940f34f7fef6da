/** A speaker-embedding network in WebAssembly. It runs in pages, in workers and in node. */
export declare class Model {
  /** From an instance of `engine.wasm` and what `weights.bin` holds; `build` makes one. */
  constructor(instance: WebAssembly.Instance, weights: Uint8Array);
  /** Features of a frame. */
  readonly featureDim: number;
  /** Values of an embedding. */
  readonly embeddingDim: number;
  /** Samples a second that `embedAudio` expects; 0 if the model takes only features. */
  readonly sampleRate: number;
  /**
   * Embeds features, frames × featureDim, one frame after the other.
   * Throws where they are fewer frames than the network needs, or more than memory holds.
   * The memory that the longest utterance took is kept for the next one.
   */
  embed(feats: ArrayLike<number>): Float32Array;
  /** The same from samples in [-1, 1], `sampleRate` a second. */
  embedAudio(samples: ArrayLike<number>): Float32Array;
}

/** What a model is made of, which may be posted to a worker. */
export interface Files {
  /** What `engine.wasm` holds. */
  engine: ArrayBuffer | Uint8Array;
  /** What `weights.bin` holds. */
  weights: ArrayBuffer | Uint8Array;
}

export interface Options {
  /** What `weights.bin` must be, as in `integrity` of `fetch`; `model.json` has it. */
  integrity?: string;
}

/**
 * Reads `engine.wasm` and `weights.bin` from a folder, which by default is that of this module.
 * A relative address starts from the page or the worker; in node it must be that of a file, whole.
 */
export declare function read(folder?: string | URL, options?: Options): Promise<Files>;

/** Makes a model of what `read` gives. */
export declare function build(files: Files): Promise<Model>;

/** Reads a model and makes it. */
export declare function load(folder?: string | URL, options?: Options): Promise<Model>;

/** The cosine of two embeddings: 1 for the same direction, 0 where one is zero and has none. */
export declare function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number;
