/** The model, apart from the page, which stays responsive while it computes. */
import {build} from './model.js';

let model;

const ROUNDS = 3; // of which the fastest is told: in the first one the browser still compiles

/** Answers `{files}` with what the model is, and `{samples}` with their embedding. */
async function answer({files, samples}) {
  if (samples) return embed(samples);
  model = await build(files);
  if (!model.sampleRate) throw new Error('it takes features, not sound');
  const {sampleRate} = model;
  const times = Array.from({length: ROUNDS}, () => embed(new Float32Array(2 * sampleRate)).milliseconds);
  return {sampleRate, milliseconds: Math.min(...times)};
}

function embed(samples) {
  const start = performance.now();
  const embedding = model.embedAudio(samples);
  return {embedding, milliseconds: performance.now() - start};
}

self.onmessage = async ({data: {id, ...request}}) => {
  try {
    postMessage({id, ...(await answer(request))});
  } catch (error) {
    postMessage({id, error: error.message});
  }
};
