'use strict';

// Cart is what this tab knows of the cart, and its only way to change it: one
// change at a time, so that each names the version that the one before led to.
class Cart {
  items = [];
  #client;
  #on;
  #etag = '';
  #version = 0;
  #owner = {}; // another one for each ticket or session
  #tail = Promise.resolve();
  #reading = null; // a read that waits for its turn
  #unsettled = null; // the change of which it is not known whether it happened
  #wishes = new Map(); // what quantities are to be, not yet sent: {to, by} by SKU
  #sent = null; // the quantity that is being set
  #seen = new Set(); // the versions on which changes that wait were decided

  // on has shown (after each drawing), changed (there is news for the other tabs),
  // ordered, over (a session has ended) and login (one is needed).
  constructor(client, on) {
    this.#client = client;
    this.#on = on;
    byId('clear').addEventListener('click', () => this.clear());
    byId('checkout').addEventListener('click', () => this.checkout());
  }

  get etag() {
    return this.#etag;
  }

  get version() {
    return this.#version;
  }

  // forget is for when the cart is another one: after a log-in or log-out, here
  // or in another tab. What was under way is not repeated for the new owner.
  forget() {
    this.#owner = {};
    this.#etag = '';
    this.#unsettled = null;
    this.#sent = null;
    this.#wishes.clear();
    this.#client.forget();
  }

  // read asks for the cart as it is; true if it could be had.
  read() {
    this.#reading ??= this.#queue(() => {
      this.#reading = null;
      return this.readNow();
    });
    return this.#reading;
  }

  // exclusive runs job between two changes, and only when it is known of the one
  // before whether it happened; false if it is not.
  exclusive(job) {
    return this.#queue(async () => (await this.#settle()) && job());
  }

  add(product) {
    const body = { items: [{ sku: product.sku, quantity: 1 }] };
    this.#change(() => ({ method: 'POST', path: '/v1/cart/items', body }), () => say(`${product.name} hangs in your cart.`));
  }

  // set makes the quantity of a line to, or by more than it will be when all that
  // was asked for before is done.
  set(sku, { to, by = 0 }) {
    const before = this.#wishes.get(sku);
    this.#wishes.set(sku, { to: to ?? before?.to, by: to === undefined ? (before?.by ?? 0) + by : 0 });
    this.#change((seen) => {
      const wish = this.#wishes.get(sku);
      if (!wish) return null; // it went with an earlier turn
      const quantity = this.#shown(sku);
      this.#wishes.delete(sku);
      if (wish.to === undefined && !this.#item(sku)) return null; // somebody took the line out
      this.#sent = { sku, quantity };
      return { method: 'PUT', path: pathOf(sku), body: { quantity }, ifMatch: wish.to === undefined ? this.#etag : seen };
    });
  }

  // shown is what a line says: what was asked for, before it is so.
  #shown(sku) {
    const wish = this.#wishes.get(sku);
    const now = this.#sent?.sku === sku ? this.#sent.quantity : this.#item(sku)?.quantity ?? 0;
    return Math.max((wish?.to ?? now) + (wish?.by ?? 0), 0);
  }

  remove(sku) {
    let item;
    this.#change((seen) => {
      item = this.#item(sku); // as it is when this gets its turn
      return item && { method: 'DELETE', path: pathOf(sku), ifMatch: seen };
    }, () => {
      const back = { method: 'POST', path: '/v1/cart/items', body: { items: [{ sku, quantity: item.quantity }] } };
      if (item.unavailable) say(`${item.name} is out of your cart.`);
      else say(`${item.name} is out of your cart.`, 'Put it back', () => this.#change(() => ({ ...back })));
    });
  }

  clear() {
    this.#change((seen) => ({ method: 'DELETE', path: '/v1/cart', ifMatch: seen }), () => say('Your cart is empty.'));
  }

  checkout() {
    this.#change((seen) => ({ method: 'POST', path: '/v1/cart/checkout', ifMatch: seen }));
  }

  #item(sku) {
    return this.items.find((item) => item.sku === sku);
  }

  #queue(job) {
    const done = this.#tail.then(job);
    this.#tail = done.catch(() => {});
    return done;
  }

  // change sends what make returns when its turn comes. make gets the ETag of the
  // cart that was seen when the change was decided, as far as only this tab has
  // changed it since. The cart is read before the first change: a change without
  // a ticket would be a new guest's each time.
  #change(make, done = () => {}) {
    const seen = { etag: this.#etag };
    this.#seen.add(seen);
    return this.exclusive(async () => {
      if (!this.#etag && !(await this.readNow())) return;
      const step = make(seen.etag || this.#etag);
      if (!step) return;
      step.key = newKey();
      await this.#send(step, done);
    }).finally(() => this.#seen.delete(seen));
  }

  async #settle() {
    if (this.#unsettled) await this.#send(this.#unsettled.step, this.#unsettled.done);
    return !this.#unsettled;
  }

  async #send(step, done) {
    const owner = this.#owner;
    const answer = await this.#client.send(step);
    if (owner !== this.#owner) return;
    this.#unsettled = this.#sent = null;
    const code = answer.body?.code;
    if (answer.status === 201) {
      await this.readNow();
      this.#on.ordered(answer.body);
    } else if (answer.status === 200) {
      const before = { etag: this.#etag, version: this.#version };
      if (answer.replayed) await this.readNow(); // it shows the version of the first time
      else this.#show(answer);
      if (this.#version === before.version + 1) { // nobody else has changed it
        for (const seen of this.#seen) if (seen.etag === before.etag) seen.etag = this.#etag;
      }
      done();
    } else if (answer.status === 412) {
      this.#wishes.clear();
      this.#show({ body: answer.body.cart, etag: answer.etag });
      say('The cart had changed meanwhile, so nothing was overwritten. This is how it is now.');
    } else if (code === 'cart_moved' || code === 'invalid_session') {
      await this.#replaced(code);
      return;
    } else if (code === 'login_required') {
      this.#on.login();
      return;
    } else if (answer.unknown) {
      this.#unsettled = { step, done };
      say('No answer, three times. Whether it happened is not known; under the same key it is safe to ask again.', 'Ask again', () => this.read());
      return;
    } else if (answer.status < 400 || answer.status === 429 || answer.status >= 500) {
      say('The shop is too busy; nothing was changed.', 'Try again', () => this.#change(() => step, done));
      return;
    } else {
      say(answer.body?.detail ?? 'The shop refused that.');
      this.#draw(); // what was typed is not so
      return;
    }
    this.#on.changed();
  }

  // over is for who learns outside the cart that the session is over.
  over() {
    return this.#queue(() => this.#replaced('invalid_session'));
  }

  // replaced goes on after an answer that says that the ticket or the session is
  // good for nothing any more; the shop has replaced or cleared it.
  async #replaced(code) {
    this.forget();
    if (code === 'invalid_session') this.#on.over();
    await this.readNow(true);
    say(code === 'cart_moved'
      ? 'That cart has moved into an account at a log-in. You have a new, empty one, and nothing was changed.'
      : 'Your session is over, and nothing was changed. Log in again to find your cart.');
  }

  // readNow is read for who has the turn.
  async readNow(again = false) {
    if (this.#unsettled && !(await this.#settle())) return false;
    const owner = this.#owner;
    const answer = await this.#client.send({ method: 'GET', path: '/v1/cart', ifNoneMatch: this.#etag });
    if (owner !== this.#owner) return false;
    if (answer.status === 304) return true;
    if (answer.status === 200) {
      this.#show(answer);
      return true;
    }
    const code = answer.body?.code;
    if (!again && (code === 'cart_moved' || code === 'invalid_session')) {
      await this.#replaced(code);
      return Boolean(this.#etag);
    }
    say(answer.body?.detail ?? 'The shop does not answer. What hangs in your cart is safe; it is only out of sight.', 'Try again', () => this.read());
    return false;
  }

  #show({ body, etag }) {
    this.items = body.items;
    this.#version = body.version;
    this.#etag = etag;
    this.#draw(body.total);
  }

  #draw(total) {
    const lines = byId('lines');
    const old = new Map(Array.from(lines.children, (line) => [line.dataset.sku, line]));
    for (const item of this.items) {
      const line = old.get(item.sku) ?? this.#newLine(item.sku);
      old.delete(item.sku);
      this.#fill(line, item);
      if (!line.parentElement) lines.append(line);
    }
    for (const line of old.values()) {
      const focused = line.contains(document.activeElement);
      line.remove();
      if (focused) byId('cart').focus();
    }
    byId('cart-note').hidden = this.items.length > 0;
    byId('version').textContent = String(this.#version).padStart(3, '0');
    if (total) byId('total').textContent = byId('pocket-total').textContent = money(total);
    for (const id of ['checkout', 'clear']) {
      if (this.items.length === 0 && byId(id) === document.activeElement) byId('cart').focus();
      byId(id).disabled = this.items.length === 0;
    }
    this.#on.shown();
  }

  #newLine(sku) {
    const line = made('t-line');
    const input = line.querySelector('input');
    line.dataset.sku = sku;
    line.querySelector('use').setAttribute('href', iconOf(sku));
    const set = (quantity) => {
      this.set(sku, quantity);
      input.value = this.#shown(sku);
    };
    line.querySelector('.less').addEventListener('click', () => set({ by: -1 }));
    line.querySelector('.more').addEventListener('click', () => set({ by: 1 }));
    line.querySelector('.remove').addEventListener('click', () => this.remove(sku));
    input.addEventListener('change', () => {
      if (/^\s*\d{1,9}\s*$/.test(input.value)) set({ to: Number(input.value) });
      else input.value = this.#shown(sku);
    });
    return line;
  }

  #fill(line, item) {
    const text = (selector, value) => { line.querySelector(selector).textContent = value; };
    text('.name', item.name);
    text('.each', item.unavailable ? 'No longer for sale: take it out to check out.' : `${money(item.unit_price)} each`);
    text('.sum', money(item.line_total));
    line.querySelector('input').value = this.#shown(item.sku);
    line.querySelector('input').setAttribute('aria-label', `Quantity of ${item.name}`);
    line.querySelector('.less').setAttribute('aria-label', `One ${item.name} less`);
    line.querySelector('.more').setAttribute('aria-label', `One ${item.name} more`);
    line.querySelector('.remove').setAttribute('aria-label', `Take ${item.name} out`);
  }
}

function pathOf(sku) {
  return `/v1/cart/items/${encodeURIComponent(sku)}`;
}

// iconOf goes by the word that a SKU begins with; what has no picture is hung up.
function iconOf(sku) {
  const id = `i-${sku.split('-')[0]}`;
  return byId(id)?.localName === 'symbol' ? `#${id}` : '#i-hanger';
}

function money({ amount, currency }) {
  const format = new Intl.NumberFormat('en', { style: 'currency', currency });
  return format.format(amount / 10 ** format.resolvedOptions().maximumFractionDigits);
}
