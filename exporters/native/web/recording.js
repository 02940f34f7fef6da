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

function milliseconds(value) {
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
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
    this.#part('.took').textContent = `${seconds(this.length)}, embedded in ${milliseconds(found.milliseconds)}`;
    const drawing = bars(levels(samples, BARS));
    for (const path of this.element.querySelectorAll('.wave path')) path.setAttribute('d', drawing);
    this.#part('.play').onclick = () => this.#toggle();
    this.#part('.remove').ariaLabel = `Remove ${name}`;
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
    this.verdict = score === null || threshold === null ? null : score >= threshold;
    const shown = this.element.querySelector('.verdict') ?? this.element.appendChild(copy('verdict'));
    shown.dataset.answer = score === null ? 'waiting' : { true: 'same', false: 'other', null: 'open' }[this.verdict];
    shown.querySelector('.words').textContent = {
      waiting: 'Waiting for a voice to be enrolled',
      same: 'Same speaker',
      other: 'Other speaker',
      open: 'No threshold to decide by',
    }[shown.dataset.answer];
    const against = threshold === null ? '' : `, threshold ${threshold.toFixed(4)}`;
    shown.querySelector('.score').textContent = score === null ? '' : `Score ${score.toFixed(4)}${against}`;
    const place = (value) => `${Math.min(100, Math.max(0, ((value - LOWEST) / (1 - LOWEST)) * 100))}%`;
    shown.querySelector('.point').style.left = place(score ?? LOWEST);
    shown.querySelector('.threshold').style.left = place(threshold ?? 1);
    shown.querySelector('.same').style.left = place(threshold ?? 1);
    return `${this.name}: ${shown.querySelector('.words').textContent}, ${shown.querySelector('.score').textContent}`;
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
    this.#part('.play').ariaLabel = `${this.#stop ? 'Stop' : 'Play'} ${this.name}`;
  }
}
