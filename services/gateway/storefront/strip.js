'use strict';

const HUES = [350, 150, 95, 235, 55, 300, 195, 20, 120, 265, 75, 325];
const LONGEST_STRIP = 60;

const byId = (id) => document.getElementById(id);
const made = (template) => byId(template).content.firstElementChild.cloneNode(true);

// hueOf gives each replica a colour of its own, the same one in every tab.
function hueOf(replica) {
  const names = recall('colours').split('\n').filter(Boolean);
  if (!names.includes(replica)) {
    names.push(replica);
    keep('colours', names.join('\n'));
  }
  return HUES[names.indexOf(replica) % HUES.length];
}

// recall and keep do without storage where the browser has none to give.
function recall(name) {
  try {
    return localStorage.getItem('coatcheck.' + name) ?? '';
  } catch {
    return '';
  }
}

function keep(name, value) {
  try {
    localStorage.setItem('coatcheck.' + name, value);
  } catch {
    // A full or forbidden store costs colours and a name, nothing else.
  }
}

// Strip shows each attempt as a ticket in the colours of who answered it, and
// the share that each replica has of the tickets shown.
class Strip {
  #tickets = byId('strip');
  #gateways = new Shares(byId('gateways'));
  #carts = new Shares(byId('carts'));
  #shown = new WeakMap(); // the answer of each ticket
  #count = 0;
  #unanswered = 0;
  #current = null; // the ticket that Tab reaches
  #chosen = false; // whether somebody chose it, so that newer ones leave it alone

  constructor() {
    this.#tickets.addEventListener('keydown', (event) => this.#move(event));
  }

  add(step, answer, attemptNumber) {
    const number = String(++this.#count).padStart(3, '0');
    const ticket = made('t-ticket');
    const { gateway, cart, status, ms } = answer;
    for (const b of ticket.querySelectorAll('b')) b.textContent = number;
    paint(ticket.querySelector('.gateway'), gateway);
    paint(ticket.querySelector('.cart'), cart);
    const bad = status === 0 || status >= 400;
    ticket.classList.toggle('torn', status === 0);
    ticket.querySelector('.stamp').textContent = status || 'no answer';
    ticket.querySelector('.stamp').hidden = !bad;
    ticket.querySelector('.step').textContent = (attemptNumber > 1 ? `${attemptNumber}. ` : '') + `${step.method} ${step.path.split('?')[0].split('/').pop()}`;
    ticket.querySelector('.time').textContent = `${ms} ms`;
    const by = [gateway, cart].filter(Boolean).join(' and ') || 'nobody';
    ticket.title = `No. ${number}: ${step.method} ${step.path}, ${status || 'no answer'}, by ${by}, ${ms} ms`;
    const line = curlOf(step);
    ticket.addEventListener('focus', () => this.#choose(ticket, line));
    ticket.addEventListener('click', () => {
      this.#choose(ticket, line);
      copy(line, `The curl line of No. ${number} is copied.`);
    });

    const { scrollLeft } = this.#tickets;
    this.#tickets.prepend(ticket);
    if (scrollLeft > 0) this.#tickets.scrollLeft = scrollLeft + ticket.offsetWidth; // whoever looks at older ones goes on doing so
    if (!this.#chosen) this.#point(ticket, line);
    this.#gateways.count(gateway, 1);
    this.#carts.count(cart, 1);
    if (this.#tickets.childElementCount > LONGEST_STRIP) this.#tear();
    if (status === 0) this.#unanswered++;
    byId('sum').textContent = `${plural(this.#count, 'request')} so far, these by ${plural(this.#gateways.size, 'gateway')} and ${plural(this.#carts.size, 'cart replica')}` +
      (this.#unanswered ? `; ${this.#unanswered} without an answer` : '');
    this.#shown.set(ticket, answer);
  }

  // tear takes the oldest ticket off.
  #tear() {
    const last = this.#tickets.lastElementChild;
    if (last === this.#current) {
      this.#chosen = false;
      if (last === document.activeElement) this.#tickets.firstElementChild.focus();
    }
    const { gateway, cart } = this.#shown.get(last);
    this.#gateways.count(gateway, -1);
    this.#carts.count(cart, -1);
    last.remove();
  }

  #choose(ticket, line) {
    this.#chosen = ticket !== this.#tickets.firstElementChild;
    this.#point(ticket, line);
  }

  #point(ticket, line) {
    if (this.#current) {
      this.#current.tabIndex = -1;
      this.#current.classList.remove('current');
    }
    this.#current = ticket;
    ticket.tabIndex = 0;
    ticket.classList.add('current');
    byId('curl').textContent = line;
  }

  #move(event) {
    const { activeElement } = document;
    const to = {
      ArrowRight: activeElement.nextElementSibling,
      ArrowLeft: activeElement.previousElementSibling,
      Home: this.#tickets.firstElementChild,
      End: this.#tickets.lastElementChild,
    }[event.key];
    if (!to) return;
    event.preventDefault();
    to.focus();
  }
}

// paint puts a replica's name and colour on half a ticket.
function paint(name, replica) {
  const half = name.parentElement;
  half.classList.toggle('blank', !replica);
  if (!replica) return;
  name.textContent = short(replica);
  half.style.setProperty('--hue', hueOf(replica));
}

// short keeps the end of a pod's name, which is what tells two apart.
function short(replica) {
  return replica.length > 13 ? '…' + replica.slice(-12) : replica;
}

function plural(n, noun) {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
}

// Shares is a bar with a part for each replica, as wide as its share.
class Shares {
  #bar;
  #parts = new Map();

  constructor(bar) {
    this.#bar = bar;
  }

  get size() {
    return this.#parts.size;
  }

  count(replica, by) {
    if (!replica) return;
    let part = this.#parts.get(replica);
    if (!part) {
      part = { item: made('t-share'), answers: 0 };
      part.item.firstElementChild.textContent = short(replica);
      part.item.title = replica;
      part.item.style.setProperty('--hue', hueOf(replica));
      this.#parts.set(replica, part);
      const next = Array.from(this.#bar.children).find((item) => item.title > replica);
      this.#bar.insertBefore(part.item, next ?? null);
    }
    part.answers += by;
    part.item.style.setProperty('flex-grow', part.answers);
    part.item.lastElementChild.textContent = part.answers;
    if (part.answers === 0) {
      part.item.remove();
      this.#parts.delete(replica);
    }
  }
}

// curlOf is the same request for a jar that holds the ticket. It works in any
// jar: what a version depends on is asked for, and no password is in it.
function curlOf(step) {
  const curl = 'curl -s -b jar -c jar';
  const words = [curl, '-i'];
  if (step.method !== 'GET' && !(step.method === 'POST' && step.body)) words.push('-X', step.method);
  if (step.key) words.push('-H', quote(`Idempotency-Key: ${step.key}`));
  if (step.ifMatch) words.push('-H', `"If-Match: $(${curl} -o /dev/null -w '%header{etag}' ${location.origin}/v1/cart)"`);
  if (step.body) {
    const body = 'password' in step.body ? { ...step.body, password: 'YOUR PASSWORD' } : step.body;
    words.push('-H', quote('Content-Type: application/json'), '-d', quote(JSON.stringify(body)));
  }
  words.push(/[?&]/.test(step.path) ? quote(location.origin + step.path) : location.origin + step.path);
  return words.join(' ');
}

function quote(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

async function copy(text, done) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // there is no such thing without TLS
    getSelection().selectAllChildren(byId('curl'));
    if (!document.execCommand('copy')) {
      say('The browser lets nothing be copied from here: the line is selected, copy it by hand.');
      return;
    }
  }
  say(done);
}
