'use strict';

const ATTEMPTS = 3;
const APART = 1100; // ms from one attempt's start to the next one's
const PATIENCE = 3000; // ms for one attempt; a gateway answers or gives up within 2 s
const LONGEST_WAIT = 10_000; // ms that Retry-After may ask for before a person is asked instead

// Client makes logical requests: up to three attempts, all the same and under
// one Idempotency-Key, so that a change whose answer was lost is repeated and
// still happens once. It tells onAnswer of each attempt.
class Client {
  #onAnswer;
  #epoch = 0;

  constructor(onAnswer) {
    this.#onAnswer = onAnswer;
  }

  // forget ends the attempts of what is under way: after a log-in or log-out the
  // same request would be somebody else's, and a key does not follow.
  forget() {
    this.#epoch++;
  }

  // send answers {status, body, etag, …}; status 0 is no answer. unknown says
  // that the request may or may not have had its effect.
  async send(step) {
    const begun = performance.now();
    const epoch = this.#epoch;
    let doubt = false;
    for (let n = 1; ; n++) {
      const answer = await attempt(step);
      this.#onAnswer(step, answer, n);
      const again = [0, 429, 502, 503, 504].includes(answer.status);
      doubt ||= again && !refused(answer) || answer.status === 500;
      answer.repeated = n > 1;
      answer.unknown = doubt && (again || answer.status === 500);
      if (!again || n === ATTEMPTS || answer.retryAfter > LONGEST_WAIT) return answer;
      const next = Math.max(begun + n * APART - performance.now(), answer.retryAfter, 0);
      await new Promise((done) => setTimeout(done, next + Math.random() * 100));
      if (epoch !== this.#epoch) return answer;
    }
  }
}

// refused tells whether an answer says that surely nothing was done.
function refused(answer) {
  return answer.status === 429 || ['overloaded', 'starting', 'draining'].includes(answer.body?.code);
}

async function attempt(step) {
  const begun = performance.now();
  const answer = { status: 0, body: null, etag: '', gateway: '', cart: '', retryAfter: 0, replayed: false };
  try {
    const response = await fetch(step.path, {
      method: step.method,
      headers: headersOf(step),
      body: step.body && JSON.stringify(step.body),
      cache: 'no-store', // else the browser asks one of several equal requests at a time
      redirect: 'error',
      signal: AbortSignal.timeout(PATIENCE),
    });
    const { headers } = response;
    answer.gateway = headers.get('Served-By') ?? '';
    answer.cart = headers.get('Served-By-Cart') ?? '';
    answer.etag = headers.get('ETag') ?? '';
    answer.replayed = headers.has('Idempotency-Replayed');
    answer.retryAfter = waitOf(headers.get('Retry-After'));
    if (headers.get('Content-Type')?.includes('json')) answer.body = await response.json();
    answer.status = response.status; // only now: half an answer is none
  } catch {
    answer.body = null;
  }
  answer.ms = Math.round(performance.now() - begun);
  return answer;
}

function headersOf(step) {
  const headers = {};
  if (step.body) headers['Content-Type'] = 'application/json';
  if (step.key) headers['Idempotency-Key'] = step.key;
  if (step.ifMatch) headers['If-Match'] = step.ifMatch;
  if (step.ifNoneMatch) headers['If-None-Match'] = step.ifNoneMatch;
  return headers;
}

// waitOf reads Retry-After, seconds or a date, as milliseconds.
function waitOf(header) {
  if (!header) return 0;
  const ms = /^\d+$/.test(header) ? header * 1000 : Date.parse(header) - Date.now();
  return Number.isFinite(ms) ? Math.max(ms, 0) : 0;
}

// newKey draws an Idempotency-Key; randomUUID is not there without TLS.
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');
}
