'use strict';

const strip = new Strip();
const client = new Client((step, answer, n) => strip.add(step, answer, n));
const tabs = new BroadcastChannel('coatcheck');
const cart = new Cart(client, {
  shown: drawHeld,
  changed: () => tabs.postMessage({}),
  ordered,
  over: () => setUser(''),
  login: () => openDoor('To order, log in or register. What hangs in your guest cart comes along, exactly once; look at it, then check out.'),
});

// Messages

let hushLater;

// say shows a message until the next one; without an action it goes by itself.
function say(text, action = '', act = null) {
  clearTimeout(hushLater);
  byId('said').textContent = text;
  byId('act').textContent = action;
  byId('act').hidden = !action;
  byId('act').onclick = () => {
    hush();
    act();
  };
  byId('note').classList.remove('quiet');
  byId('hush').hidden = false;
  if (!action) hushLater = setTimeout(hush, 8000);
}

function hush() {
  byId('note').classList.add('quiet'); // not hidden: a screen reader would miss what is said next
  byId('said').textContent = '';
  byId('act').hidden = byId('hush').hidden = true;
}

byId('hush').addEventListener('click', hush);

// The shelf

async function loadShelf() {
  const answer = await client.send({ method: 'GET', path: '/v1/products' });
  const note = byId('shelf-note');
  if (answer.status !== 200) {
    note.textContent = 'The catalogue could not be had.';
    say('The catalogue could not be had.', 'Try again', loadShelf);
    return;
  }
  note.hidden = true;
  byId('products').replaceChildren(...answer.body.products.map(newProduct));
  drawHeld();
}

function newProduct(product, index) {
  const card = made('t-product');
  card.dataset.sku = product.sku;
  card.querySelector('.plate').textContent = index + 1;
  card.querySelector('use').setAttribute('href', iconOf(product.sku));
  card.querySelector('h3').textContent = product.name;
  card.querySelector('.price').textContent = money(product.unit_price);
  const add = card.querySelector('.add');
  add.setAttribute('aria-label', `Add ${product.name}`);
  add.addEventListener('click', () => cart.add(product));
  return card;
}

// drawHeld says on the shelf and at the phone's edge what the cart holds.
function drawHeld() {
  const held = new Map(cart.items.map((item) => [item.sku, item.quantity]));
  for (const card of byId('products').children) {
    const quantity = held.get(card.dataset.sku) ?? 0;
    card.querySelector('.held').textContent = `${quantity} in the cart`;
    card.querySelector('.held').hidden = quantity === 0;
  }
  const things = cart.items.reduce((sum, item) => sum + item.quantity, 0);
  byId('pocket-count').textContent = things ? `${plural(things, 'thing')} in your cart` : 'Your cart is empty';
  document.title = things ? `(${things}) coatcheck` : 'coatcheck';
}

// The account

// setUser remembers the address for the next page: the session's cookie, which
// decides, is out of a script's reach.
function setUser(email) {
  keep('user', email);
  drawUser();
}

function drawUser() {
  const email = recall('user');
  byId('who').textContent = email || 'Guest';
  byId('enter').hidden = Boolean(email);
  byId('leave').hidden = !email;
  if (!email) {
    byId('order-list').replaceChildren();
    byId('older').hidden = true;
    byId('orders-note').textContent = 'Log in to order, and to see what you ordered.';
    byId('orders-note').hidden = false;
  }
}

function openDoor(why) {
  byId('door-why').textContent = why;
  byId('door-error').textContent = '';
  byId('door').showModal();
}

// enter logs in, and registers before that if asked to; it returns what went
// wrong, or nothing.
function enter(registering, email, password) {
  const body = { email, password };
  const why = (answer) => answer.body?.detail ?? 'The shop does not answer. Try again in a moment.';
  return cart.exclusive(async () => {
    if (registering) {
      const answer = await client.send({ method: 'POST', path: '/v1/users', body });
      // Taken, perhaps by an attempt of ours that was not answered: the password tells.
      const ours = answer.body?.code === 'email_taken' && answer.repeated;
      if (answer.status !== 201 && !ours) return why(answer);
    }
    const answer = await client.send({ method: 'POST', path: '/v1/sessions', body });
    if (answer.status !== 201) return why(answer);
    cart.forget();
    setUser(email);
    tabs.postMessage({ user: email });
    await cart.readNow();
    return '';
  });
}

async function leave() {
  await cart.exclusive(async () => {
    const answer = await client.send({ method: 'DELETE', path: '/v1/sessions/current' });
    if (answer.status !== 204 && answer.status !== 401) {
      say('The log-out was not answered: you may still be logged in.', 'Try again', leave);
      return;
    }
    cart.forget();
    setUser('');
    tabs.postMessage({ user: '' });
    await cart.readNow();
    say('Logged out, on every replica at once. Your cart waits in your account.');
  });
}

byId('enter').addEventListener('click', () => openDoor('What hangs in your guest cart comes along, exactly once.'));
byId('leave').addEventListener('click', leave);
byId('door-close').addEventListener('click', () => byId('door').close());
byId('credentials').addEventListener('submit', async (event) => {
  event.preventDefault();
  const form = event.target;
  if (form.ariaBusy === 'true') return;
  form.ariaBusy = 'true';
  byId('door-error').textContent = '';
  const wrong = await enter(event.submitter?.value === 'register', byId('email').value, byId('password').value);
  form.ariaBusy = 'false';
  if (wrong === '') {
    form.reset();
    byId('door').close();
    say('Logged in. What hung in your guest cart hangs in yours now.');
    loadOrders();
  } else {
    byId('door-error').textContent = wrong || 'First it must be known whether your last change happened. Try again in a moment.';
  }
});

// Orders

async function loadOrders(token = '') {
  const query = token ? `&page_token=${encodeURIComponent(token)}` : '';
  const answer = await client.send({ method: 'GET', path: `/v1/orders?page_size=5${query}` });
  if (answer.status === 401) {
    cart.over();
    return;
  }
  if (answer.status !== 200) {
    say('Your orders could not be had; they are safe.', 'Try again', () => loadOrders(token));
    return;
  }
  const list = byId('order-list');
  if (!token) list.replaceChildren();
  list.append(...answer.body.orders.map(newOrder));
  const next = answer.body.next_page_token;
  byId('older').hidden = !next;
  byId('older').onclick = () => loadOrders(next);
  byId('orders-note').textContent = 'You have ordered nothing yet.';
  byId('orders-note').hidden = list.childElementCount > 0;
}

function newOrder(order) {
  const entry = made('t-order');
  entry.dataset.id = order.id;
  const when = new Date(order.created_at);
  entry.querySelector('.when').textContent = when.toLocaleString('en', { dateStyle: 'medium', timeStyle: 'short' });
  entry.querySelector('b').textContent = money(order.total);
  entry.querySelector('.small').textContent = `Order ${order.id}`;
  for (const item of order.items) {
    const line = document.createElement('li');
    line.textContent = `${item.quantity} × ${item.name}, ${money(item.line_total)}`;
    entry.querySelector('ul').append(line);
  }
  return entry;
}

function ordered(order) {
  const known = Array.from(byId('order-list').children, (entry) => entry.dataset.id);
  if (!known.includes(order.id)) byId('order-list').prepend(newOrder(order)); // the answer to a repeat names the same order
  byId('orders-note').hidden = true;
  byId('orders').focus();
  say(`Ordered, for ${money(order.total)}. Your cart goes on with version ${cart.version}.`);
}

// Who served you

byId('copy').addEventListener('click', () => copy(byId('curl').textContent, 'The curl line is copied.'));

byId('six').addEventListener('click', async () => {
  if (!cart.etag && !(await cart.read())) return;
  const asked = Array.from({ length: 6 }, () => client.send({ method: 'GET', path: '/v1/cart' }));
  const answers = (await Promise.all(asked)).filter((answer) => answer.status === 200);
  const different = (member) => new Set(answers.map((answer) => answer[member])).size;
  if (answers.length < 6 || different('etag') > 1 || answers[0].etag !== cart.etag) {
    say(`${plural(answers.length, 'answer')}; the cart changed meanwhile, or the shop did.`);
    cart.read();
    return;
  }
  say(`Six answers by ${plural(different('gateway'), 'gateway')} and ${plural(different('cart'), 'cart replica')}: one and the same cart, version ${cart.version}.`);
});

let asking;

byId('keep').addEventListener('click', () => {
  clearInterval(asking);
  const on = byId('keep').getAttribute('aria-pressed') !== 'true';
  byId('keep').setAttribute('aria-pressed', on);
  if (!on) return;
  const ask = () => document.hidden || cart.read();
  asking = setInterval(ask, 1000);
  ask();
});

// Several tabs

// A message says that the cart has changed, and after a log-in or log-out who
// the user is: what the other tab has stored may come later than its message.
tabs.addEventListener('message', (event) => {
  const { user } = event.data;
  if (user !== undefined) {
    cart.forget();
    setUser(user);
    if (user) loadOrders();
  }
  cart.read();
});

// What another tab, another browser or time has done is seen at the first look.
document.addEventListener('visibilitychange', () => document.hidden || cart.read());
addEventListener('pageshow', (event) => event.persisted && cart.read());

drawUser();
cart.read().then(() => recall('user') && loadOrders());
loadShelf();
