// Rounds of models and onnxruntime-web on the same features, in node or on a page.
// node webassembly.mjs FOLDER, or a page that imports `measure`; the folder has config.json.

const median = (values) => values.slice().sort((a, b) => a - b)[values.length >> 1];

/** Numbers that are the same everywhere (a linear congruential generator). */
function features(count) {
  let state = 1;
  return Float32Array.from({length: count}, () => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return state / 0x40000000 - 1;
  });
}

/** What onnxruntime-web computes of a graph, in one thread. */
async function onnxRuntime(ort, graph, shape) {
  const options = {executionProviders: ['wasm'], graphOptimizationLevel: 'all'};
  const session = await ort.InferenceSession.create(graph, options);
  return async (feats) => {
    const {embs} = await session.run({feats: new ort.Tensor('float32', feats, shape)});
    return embs.data;
  };
}

/**
 * Median milliseconds of each round, by name, and how far embeddings are from those of the dense
 * graph where a model is it.
 * @param {URL} folder with config.json, dense.onnx, ort/ and a folder of each model
 * @param {(url: URL) => Promise<Uint8Array>} read
 */
export async function measure(folder, read) {
  const config = JSON.parse(new TextDecoder().decode(await read(new URL('config.json', folder))));
  const ort = await import(new URL('ort/ort.wasm.min.mjs', folder));
  ort.env.logLevel = 'error';
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = await read(new URL('ort/ort-wasm-simd-threaded.wasm', folder));
  const graph = await read(new URL('dense.onnx', folder));
  const feats = features(config.frames * config.bins);
  const candidates = [
    ['onnxruntime-web', await onnxRuntime(ort, graph, [1, config.frames, config.bins])],
  ];
  for (const name of config.models) {
    const {load} = await import(new URL(`${name}/model.js`, folder));
    const model = await load(new URL(`${name}/`, folder));
    candidates.push([name, async (values) => model.embed(values)]);
  }
  const times = Object.fromEntries(candidates.map(([name]) => [name, []]));
  for (const [, run] of candidates) for (let i = 0; i < config.warm; i++) await run(feats);
  for (let round = 0; round < config.rounds; round++) {
    const order = candidates.slice().sort(() => Math.random() - 0.5);
    for (const [name, run] of order) {
      await run(feats); // finds the caches cold
      const calls = [];
      for (let i = 0; i < config.calls; i++) {
        const start = performance.now();
        await run(feats);
        calls.push(performance.now() - start);
      }
      times[name].push(median(calls));
    }
  }
  return {times, onnxruntime: ort.env.versions.web};
}

if (typeof process !== 'undefined') {
  const {readFile} = await import('node:fs/promises');
  const {pathToFileURL} = await import('node:url');
  const folder = pathToFileURL(`${process.argv[2]}/`);
  const result = await measure(folder, async (url) => new Uint8Array(await readFile(url)));
  process.stdout.write(JSON.stringify({...result, version: process.version}), () => process.exit(0));
}
