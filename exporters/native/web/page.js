/** The page: a voice is enrolled on one side, others are compared with it on the other. */
import {start} from './engine.js';
import {milliseconds, seconds} from './recording.js';
import {score} from './scoring.js';
import {Source} from './source.js';

const element = (id) => document.getElementById(id);
const number = new Intl.NumberFormat('en').format;
const percent = (share) => `${(100 * share).toFixed(share < 0.995 ? 0 : 1)}%`;
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(bytes < 1e6 ? 2 : 1)} MB`;

let facts = {};
const enrolled = new Source(element('enrol'), judge);
const others = new Source(element('compare'), judge);

/** Compares all recordings with the voice, and tells what is new to who cannot see it. */
function judge(added) {
  const voice = enrolled.recordings.map((each) => each.embedding);
  const {mean = null, threshold = null} = facts.decision ?? {};
  const found = new Map();
  for (const each of others.recordings) {
    const value = voice.length ? score(voice, each.embedding, mean) : null;
    found.set(each, each.judge(value, threshold));
  }
  const length = enrolled.recordings.reduce((sum, each) => sum + each.length, 0);
  const count = `${voice.length} recording${voice.length > 1 ? 's' : ''}`;
  const state = voice.length ? `${count}, ${seconds(length)}, enrolled.` : 'No voice is enrolled.';
  const all = [state, ...found.values()];
  element('announcement').textContent = found.get(added) ?? all.join(' ');
}

function describe() {
  const {decision} = facts;
  const decided = decision
    ? `${decision.threshold.toFixed(4)} (${decision.operating_point})`
    : 'none: the page tells the cosine';
  tell([
    ['Network', facts.architecture],
    ...(facts.method ? [['Trained by', facts.method]] : []),
    ['Weights', `${number(facts.nonzero)} of ${number(facts.parameters)} are not zero`],
    ['Sparsity', percent(facts.sparsity)],
    ['Download', `${megabytes(facts.bytes)}, ${facts.precision}`],
    ['Embedding', `${facts.embedding_dim} values, from speech at ${facts.sample_rate / 1000} kHz`],
    ['Threshold', decided],
    ['Made by', facts.made_by],
    ['Digest', facts.digest.slice(0, 16)],
  ]);
}

function tell(rows) {
  for (const [name, value] of rows) {
    const [term, description] = [document.createElement('dt'), document.createElement('dd')];
    term.textContent = name;
    description.textContent = value;
    element('facts').append(term, description);
  }
}

async function read(name) {
  const response = await fetch(name, {cache: 'no-cache'});
  if (!response.ok) throw new Error(`${name} cannot be read: the server answers ${response.status}`);
  return response.json();
}

// A file that is dropped beside the page's places would take its place.
for (const kind of ['dragover', 'drop']) document.addEventListener(kind, (event) => event.preventDefault());

async function open() {
  const state = element('state');
  state.textContent = 'Loading the model …';
  state.classList.add('busy');
  try {
    facts = await read('model.json');
    describe();
    state.textContent = `Loading the model, ${megabytes(facts.bytes)} …`;
    const {sampleRate, milliseconds: time} = await start(facts.integrity);
    tell([['Speed here', `2 s of speech in ${milliseconds(time)}`]]);
    enrolled.open(sampleRate);
    others.open(sampleRate);
    state.textContent = 'The model is loaded. Nothing that you record leaves this device.';
    state.classList.add('ready');
  } catch ({message}) {
    state.textContent = `The model does not load: ${message}.`;
    state.classList.add('failed');
  } finally {
    state.classList.remove('busy');
  }
}

open();
