/** A speaker-embedding network in WebAssembly. It runs in pages, in workers and in node. */
export declare class Model {
  /** From an instance of `engine.wasm` and what `weights.bin` holds. */
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
   */
  embed(feats: ArrayLike<number>): Float32Array;
  /** The same from samples in [-1, 1], `sampleRate` a second. */
  embedAudio(samples: ArrayLike<number>): Float32Array;
}

/** Loads `engine.wasm` and `weights.bin` from a folder, which by default is that of this module. */
export declare function load(folder?: string | URL): Promise<Model>;

/** The cosine of two embeddings: 1 for the same direction. */
export declare function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number;
