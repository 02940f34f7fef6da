/** The model in a worker, which can reach nothing but the page. */
import {read} from './model.js';

const waiting = new Map();
let worker;
let asked = 0;

/** Loads the model, whose weights must have this digest; tells its sample rate and its speed. */
export async function start(integrity) {
  const files = await read(undefined, {integrity});
  forbidConnections();
  worker = open();
  return ask({files});
}

/** Embeds samples; tells the embedding, and the milliseconds it took. */
export const embed = (samples) => ask({samples});

/** From now on neither the page nor its worker may fetch or send anything. */
function forbidConnections() {
  const policy = document.createElement('meta');
  policy.httpEquiv = 'Content-Security-Policy';
  policy.content = "connect-src 'none'";
  document.head.append(policy);
}

/** A worker that the page's policies bind: those with an address of their own have their own. */
function open() {
  const code = `import ${JSON.stringify(new URL('worker.js', import.meta.url))};`;
  const address = URL.createObjectURL(new Blob([code], {type: 'text/javascript'}));
  const opened = new Worker(address, {type: 'module'});
  opened.onmessage = ({data: {id, error, ...answer}}) => {
    const {resolve, reject} = waiting.get(id);
    waiting.delete(id);
    if (error) reject(new Error(error));
    else resolve(answer);
  };
  opened.onerror = () => {
    const error = new Error('this browser cannot run it in a worker: update the browser');
    for (const {reject} of waiting.values()) reject(error);
    waiting.clear();
  };
  return opened;
}

function ask(request) {
  return new Promise((resolve, reject) => {
    waiting.set(++asked, {resolve, reject});
    worker.postMessage({id: asked, ...request});
  });
}
