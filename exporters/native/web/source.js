/** Where recordings come from: the microphone, chosen files and dropped ones. */
import {decode, isSilent, loudness, record} from './audio.js';
import {embed} from './engine.js';
import {Recording, bars, seconds} from './recording.js';

const LONGEST = 60; // seconds from the microphone
const SHOWN = 48; // levels that are drawn while it records

let recorded = 0;
let stopOther = null; // one microphone, so one recording at a time

export class Source {
  #section;
  #rate = 0;
  #changed;
  #stopNow = null; // what stops it while it records
  recordings = [];

  /**
   * @param {HTMLElement} section gets the buttons and the list
   * @param {(added: Recording | null) => void} changed is told when the list is another one
   */
  constructor(section, changed) {
    this.#section = section;
    this.#changed = changed;
    section.append(document.getElementById('source').content.cloneNode(true));
    this.#part('.record').onclick = () => (this.#stopNow ? this.#stopNow() : this.#record());
    this.#part('input').onchange = ({target}) => {
      const files = [...target.files];
      target.value = ''; // the same file may be chosen again
      this.#take(files);
    };
    section.ondragover = (event) => {
      event.preventDefault();
      section.classList.add('over');
    };
    section.ondragleave = ({relatedTarget}) => {
      if (!section.contains(relatedTarget)) section.classList.remove('over');
    };
    section.ondrop = (event) => {
      event.preventDefault();
      section.classList.remove('over');
      if (this.#rate) this.#take([...event.dataTransfer.files]);
    };
  }

  /** Takes recordings from now on, at a sample rate. */
  open(rate) {
    this.#rate = rate;
    this.#part('.record').disabled = this.#part('input').disabled = false;
  }

  #part(selector) {
    return this.#section.querySelector(selector);
  }

  async #take(files) {
    this.#part('.error').textContent = '';
    for (const file of files) {
      await this.#add(file.name, () => decode(file, this.#rate));
    }
  }

  /** Adds what is read, or says why not. */
  async #add(name, read) {
    this.#section.setAttribute('aria-busy', 'true');
    this.#part('.working').textContent = `Embedding “${name}” …`;
    try {
      const samples = await read();
      if (isSilent(samples)) throw new Error(`There is no sound in “${name}”.`);
      const found = await embed(samples).catch(({message}) => {
        throw new Error(`“${name}” is not usable: ${message}.`);
      });
      const recording = new Recording(name, samples, found, this.#rate, (gone) => this.#remove(gone));
      this.recordings.push(recording);
      this.#part('.recordings').append(recording.element);
      this.#changed(recording);
    } catch ({message}) {
      this.#say(message);
    } finally {
      this.#section.removeAttribute('aria-busy');
    }
  }

  #remove(recording) {
    const at = this.recordings.indexOf(recording);
    this.recordings.splice(at, 1);
    recording.element.remove();
    const next = this.recordings[at] ?? this.recordings[at - 1];
    (next?.element.querySelector('.remove') ?? this.#part('.record')).focus();
    this.#changed(null);
  }

  async #record() {
    this.#part('.error').textContent = '';
    stopOther?.();
    const button = this.#part('.record');
    button.disabled = true;
    const heights = new Array(SHOWN).fill(0);
    let stop;
    try {
      const heard = (samples, length) => {
        heights.push(Math.min(1, 5 * loudness(samples)));
        heights.shift();
        this.#part('.live path').setAttribute('d', bars(heights));
        this.#part('.clock').textContent = seconds(length);
        if (length >= LONGEST) this.#stopNow?.();
      };
      stop = await record(this.#rate, heard, () => this.#stopNow?.());
    } catch ({message}) {
      this.#say(message);
      return;
    } finally {
      button.disabled = false;
    }
    const stopNow = () => {
      if (stopOther === stopNow) stopOther = null;
      this.#stopNow = null;
      this.#show(false);
      this.#add(`Recording ${++recorded}`, stop);
    };
    stopOther?.(); // which may have started meanwhile
    this.#stopNow = stopOther = stopNow;
    this.#show(true);
  }

  #show(recording) {
    this.#section.classList.toggle('recording-now', recording);
    this.#part('.record .label').textContent = recording ? 'Stop' : 'Record';
    this.#part('.clock').textContent = recording ? seconds(0) : '';
    this.#part('.live path').setAttribute('d', '');
  }

  #say(message) {
    const paragraph = document.createElement('p');
    paragraph.textContent = message;
    this.#part('.error').append(paragraph);
  }
}
