/** Samples from files and from the microphone, and how they look and sound. */

const LONGEST = 120; // seconds of a file, for which large networks take 300 MB
const MOST_BYTES = 200e6;
const SMALLEST_STEP = 2 ** -15; // of 16 bits: what moves less is silence
const REFUSALS = {
  NotAllowedError: 'The microphone was refused: allow it for this page in the browser, and try again.',
  NotFoundError: 'There is no microphone: plug one in, or choose a file.',
  NotReadableError: 'The microphone does not start: another program may be using it.',
};

/** The samples of a file at a sample rate, all channels averaged, as sparsify reads it. */
export async function decode(file, rate) {
  if (file.size > MOST_BYTES) throw new Error(`“${file.name}” is too large: choose a shorter one.`);
  let buffer;
  try {
    const context = new OfflineAudioContext(1, 1, rate); // which resamples what it decodes
    buffer = await context.decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Error(`“${file.name}” does not decode here: choose a WAV, FLAC, MP3, OGG or M4A file.`);
  }
  if (buffer.duration > LONGEST) {
    throw new Error(`“${file.name}” is longer than ${LONGEST / 60} minutes: choose a shorter piece.`);
  }
  return withinScale(mono(buffer));
}

function mono(buffer) {
  const samples = buffer.getChannelData(0).slice();
  for (let channel = 1; channel < buffer.numberOfChannels; channel++) {
    buffer.getChannelData(channel).forEach((value, i) => (samples[i] += value));
  }
  return buffer.numberOfChannels > 1 ? samples.map((value) => value / buffer.numberOfChannels) : samples;
}

const peakOf = (samples) => samples.reduce((peak, value) => Math.max(peak, Math.abs(value)), 0);

function withinScale(samples) {
  const peak = peakOf(samples);
  return peak > 1 ? samples.map((value) => value / peak) : samples;
}

/** Whether there is no sound in samples: all are equal at 16 bits. */
export function isSilent(samples) {
  let [lowest, highest] = [Infinity, -Infinity];
  for (const value of samples) {
    if (value < lowest) lowest = value;
    if (value > highest) highest = value;
  }
  return !(highest - lowest >= SMALLEST_STEP);
}

/** The loudness of equal parts of samples, from 0 to 1, relative to the loudest. */
export function levels(samples, count) {
  const parts = Array.from({length: count}, (_, i) => {
    const part = samples.subarray((i * samples.length) / count, ((i + 1) * samples.length) / count);
    return loudness(part);
  });
  const loudest = Math.max(...parts) || 1;
  return parts.map((each) => each / loudest);
}

/** The root of the mean square of samples. */
export function loudness(samples) {
  return Math.sqrt(samples.reduce((sum, value) => sum + value * value, 0) / (samples.length || 1));
}

/** Plays samples; the answer stops them. */
export function play(samples, rate, ended) {
  const context = new AudioContext();
  const source = context.createBufferSource();
  source.buffer = new AudioBuffer({length: samples.length, sampleRate: rate});
  source.buffer.copyToChannel(samples, 0);
  source.connect(context.destination);
  source.onended = () => {
    context.close();
    ended();
  };
  source.start();
  return () => source.stop();
}

/**
 * Records from the microphone, without the filters that browsers have for calls.
 * @param {number} rate samples a second that are wanted
 * @param {(samples: Float32Array, seconds: number) => void} heard is told what comes in
 * @param {() => void} ended is told when the microphone is taken away
 * @returns what stops it and gives the samples
 */
export async function record(rate, heard, ended) {
  if (!window.isSecureContext) {
    throw new Error('Browsers give the microphone to https and localhost only: choose a file.');
  }
  if (!navigator.mediaDevices?.getUserMedia) throw new Error(REFUSALS.NotFoundError);
  const context = new AudioContext(); // before anything is awaited, as Safari asks
  try {
    await context.audioWorklet.addModule(new URL('recorder.js', import.meta.url));
    const stream = await navigator.mediaDevices.getUserMedia({
      audio: {channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false},
    });
    stream.getAudioTracks()[0].onended = ended;
    return listen(context, stream, rate, heard);
  } catch (error) {
    context.close();
    throw new Error(REFUSALS[error.name] ?? `The microphone does not start: ${error.message}.`);
  }
}

function listen(context, stream, rate, heard) {
  const recorder = new AudioWorkletNode(context, 'recorder', {
    numberOfOutputs: 0,
    channelCount: 1,
    channelCountMode: 'explicit',
  });
  const parts = [];
  let elapsed = 0;
  const complete = new Promise((resolve) => {
    recorder.port.onmessage = ({data}) => {
      if (!data) return resolve();
      elapsed += data.length;
      // Microphones give zeros until they have started, which no voice has.
      const begin = parts.length ? 0 : data.findIndex((value) => value !== 0);
      if (begin >= 0) parts.push(data.subarray(begin));
      heard(data, elapsed / context.sampleRate);
    };
  });
  context.createMediaStreamSource(stream).connect(recorder);
  context.resume();
  return async () => {
    recorder.port.postMessage('stop');
    await complete;
    for (const track of stream.getTracks()) track.stop();
    const from = context.sampleRate;
    await context.close();
    return resampled(parts, from, rate);
  };
}

async function resampled(parts, from, rate) {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  if (!length) return new Float32Array();
  const buffer = new AudioBuffer({length, sampleRate: from});
  let at = 0;
  for (const part of parts) {
    buffer.copyToChannel(part, 0, at);
    at += part.length;
  }
  const context = new OfflineAudioContext(1, Math.ceil((length * rate) / from), rate);
  const source = context.createBufferSource();
  source.buffer = buffer;
  source.connect(context.destination);
  source.start();
  return withinScale(mono(await context.startRendering()));
}
