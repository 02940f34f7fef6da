/** The model, apart from the page, which stays responsive while it computes. */
import {build} from './model.js';

let model;

/** Answers `{files}` with the model's sample rate, and `{samples}` with their embedding. */
async function answer({files, samples}) {
  if (samples) return embed(samples);
  model = await build(files);
  if (!model.sampleRate) throw new Error('it takes features, not sound');
  embed(new Float32Array(model.sampleRate)); // so that it is compiled before it is timed
  return {sampleRate: model.sampleRate};
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
