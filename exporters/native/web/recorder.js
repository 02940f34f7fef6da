/** Passes on what a microphone hears, on the thread of the audio. */
const BATCH = 2048; // samples

class Recorder extends AudioWorkletProcessor {
  #batch = new Float32Array(BATCH);
  #filled = 0;

  constructor() {
    super();
    this.port.onmessage = () => {
      this.port.postMessage(this.#batch.slice(0, this.#filled));
      this.port.postMessage(null); // that was all
      this.#filled = 0;
    };
  }

  process([[samples]]) {
    if (!samples) return true; // nothing is connected yet
    this.#batch.set(samples, this.#filled);
    this.#filled += samples.length;
    if (this.#filled + samples.length > BATCH) {
      this.port.postMessage(this.#batch.slice(0, this.#filled));
      this.#filled = 0;
    }
    return true;
  }
}

registerProcessor('recorder', Recorder);
