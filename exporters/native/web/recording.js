/** A recording in a list: what it is, how it looks and sounds, and what was found. */
import {levels, play} from './audio.js';

const BARS = 60;
const [WIDTH, HEIGHT] = [240, 40]; // of the drawing
const LOWEST = -0.5; // score at the left end of the scale; the right end is 1

const copy = (id) => document.getElementById(id).content.cloneNode(true).firstElementChild;

/** Bars, as high as levels from 0 to 1, as the path of a drawing. */
export function bars(heights) {
  const step = WIDTH / heights.length;
  const bar = (height, i) => {
    const half = Math.max(0.5, (height * (HEIGHT - 4)) / 2);
    return `M${((i + 0.5) * step).toFixed(1)} ${(HEIGHT / 2 - half).toFixed(1)}v${(2 * half).toFixed(1)}`;
  };
  return heights.map(bar).join('');
}

/** Seconds as people read them. */
export const seconds = (value) => `${value.toFixed(1)} s`;

/** Milliseconds likewise. */
export const milliseconds = (value) => `${value.toFixed(value < 10 ? 1 : 0)} ms`;

/** The kind of an answer, the answer, and what is said of it. */
function judgement(score, threshold) {
  if (score === null) return ['waiting', 'No voice yet', 'Enrol one to compare this with.'];
  if (threshold === null) return ['open', `Cosine ${score.toFixed(4)}`, 'No threshold to decide by.'];
  const about = `Score ${score.toFixed(4)}, threshold ${threshold.toFixed(4)}`;
  return score >= threshold ? ['same', 'Same speaker', about] : ['other', 'Other speaker', about];
}

/** Where a score lies on the scale. */
function place(score) {
  return `${100 * Math.min(1, Math.max(0, (score - LOWEST) / (1 - LOWEST)))}%`;
}

export class Recording {
  #rate;
  #stop = null; // what stops it while it plays

  /**
   * @param {string} name how it is called
   * @param {Float32Array} samples at the model's sample rate
   * @param {{embedding: Float32Array, milliseconds: number}} found what the model says of it
   * @param {number} rate the sample rate
   * @param {(recording: Recording) => void} removed is told when it is to go
   */
  constructor(name, samples, found, rate, removed) {
    this.name = name;
    this.samples = samples;
    this.embedding = found.embedding;
    this.length = samples.length / rate;
    this.#rate = rate;
    this.element = copy('recording');
    this.#part('.name').textContent = name;
    this.#part('.name').title = name;
    const took = milliseconds(found.milliseconds);
    this.#part('.took').textContent = `${seconds(this.length)}, embedded in ${took}`;
    const drawing = bars(levels(samples, BARS));
    for (const path of this.element.querySelectorAll('.wave path')) path.setAttribute('d', drawing);
    this.#part('.play').onclick = () => this.#toggle();
    this.#part('.remove').setAttribute('aria-label', `Remove ${name}`);
    this.#part('.remove').onclick = () => {
      this.#stop?.();
      removed(this);
    };
    this.#showPlaying();
  }

  /**
   * Shows how it compares with the enrolled voice.
   * @param {number | null} score none while no voice is enrolled
   * @param {number | null} threshold none where the model has none
   */
  judge(score, threshold) {
    if (!this.#part('.verdict')) this.element.append(copy('verdict'));
    const [answer, words, about] = judgement(score, threshold);
    this.#part('.verdict').dataset.answer = answer;
    this.#part('.words').textContent = words;
    this.#part('.score').textContent = about;
    this.#part('.point').style.left = place(score ?? LOWEST);
    for (const each of ['.threshold', '.same']) this.#part(each).style.left = place(threshold ?? 1);
    return `${this.name}: ${words}. ${about}`;
  }

  #part(selector) {
    return this.element.querySelector(selector);
  }

  #toggle() {
    if (this.#stop) return this.#stop();
    const sweep = this.#part('.played').animate(
      [{clipPath: 'inset(0 100% 0 0)'}, {clipPath: 'inset(0)'}],
      this.length * 1000,
    );
    this.#stop = play(this.samples, this.#rate, () => {
      sweep.cancel();
      this.#stop = null;
      this.#showPlaying();
    });
    this.#showPlaying();
  }

  #showPlaying() {
    this.element.classList.toggle('playing', this.#stop !== null);
    this.#part('.play').setAttribute('aria-label', `${this.#stop ? 'Stop' : 'Play'} ${this.name}`);
  }
}
