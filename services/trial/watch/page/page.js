"use strict";
// Draws each State that comes. Nothing in it becomes markup.
const byId = (id) => document.getElementById(id);
const set = (id, text) => { if (byId(id).textContent !== text) byId(id).textContent = text; };
const make = (tag, text, name) => Object.assign(document.createElement(tag), { textContent: text ?? "", className: name ?? "" });
const number = new Intl.NumberFormat("en").format;
const plural = (n, one, many) => `${number(n)} ${n === 1 ? one : many}`;

// Durations come in nanoseconds.
const whole = (ns) => {
  const s = Math.floor(ns / 1e9);
  return s < 120 ? `${s} s` : `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")} min`;
};
const latency = (ns) => {
  if (!ns) return "–";
  const [value, unit] = ns < 1e6 ? [ns / 1e3, "µs"] : ns < 1e9 ? [ns / 1e6, "ms"] : [ns / 1e9, "s"];
  return `${value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : Math.round(value)} ${unit}`;
};

function head(s) {
  const running = `Trial ${s.run.scenario}`;
  const title = !s.over ? running : s.verdict || "Broken off";
  set("title", title);
  document.title = s.over ? `${title} · coatcheck trial` : `${number(s.lost)} lost of ${number(s.acknowledged)} · coatcheck trial`;
  byId("head").className = s.over ? (s.verdict || "broken").toLowerCase() : "";
  set("target", `on ${s.run.target}`);
  set("said", s.over ? s.line.replace(/^(PASS|FAIL INCONCLUSIVE|FAIL) +/, "") : s.doing ?? "");
  const left = s.run.length - s.elapsed;
  set("time", `${s.over ? `${s.run.scenario}, ` : ""}${whole(s.elapsed)} of ${whole(s.run.length)}${left > 0 && !s.over ? `, ${whole(left + 999e6)} left` : ""}`);
  const share = s.over || !s.run.length ? 1 : Math.min(1, s.elapsed / s.run.length);
  byId("bar").setAttribute("aria-valuenow", Math.round(100 * share));
  byId("bar").firstChild.style.transform = `scaleX(${share})`;
}

function cards(s) {
  set("acknowledged", number(s.acknowledged));
  set("lost", number(s.lost));
  set("lines", `of ${number(s.lines)} lines watched`);
  byId("lost-card").className = `card ${s.lost ? "bad" : "good"}`;
  set("failed", number(s.failed));
  byId("failed-card").className = `card ${s.failed ? "bad" : ""}`;
  set("unknown", s.unknown || s.missed ? `${number(s.unknown)} unknown${s.missed ? `, ${number(s.missed)} not sent` : ""}` : "none without an answer");
  set("rate", number(Math.round(s.rate)));
  set("flight", `${number(s.in_flight)} in flight, ${plural(s.retried, "attempt", "attempts")} repeated`);
  set("p99", latency(s.p99));
  set("p50", s.p50 ? `half of all within ${latency(s.p50)}` : "nothing is asked for");
  set("made", number(s.made));
  const now = s.faults.filter((f) => !f.end).map((f) => f.name);
  set("last", now.length ? `now: ${now.join(", ")}` : s.faults.length ? `last: ${s.faults.at(-1).name}` : "none yet");
}

const up = (r) => ["", undefined, "running", "ready"].includes(r.state);
const tiles = new Map();

function replicas(s) {
  const box = byId("replicas");
  const roles = [...new Set(s.replicas.map((r) => r.role))];
  const most = Math.max(1, ...s.replicas.map((r) => r.rate));
  for (const role of box.querySelectorAll(".role")) {
    if (!roles.includes(role.dataset.role)) role.remove();
  }
  for (const role of roles) {
    let row = [...box.children].find((e) => e.dataset.role === role);
    if (!row) {
      row = make("div", "", "role");
      row.dataset.role = role;
      row.append(make("h3", role || "others"), make("ul"));
      box.append(row);
    }
  }
  const there = new Set(s.replicas.map((r) => r.name));
  for (const [name, tile] of tiles) {
    if (!there.has(name)) { tile.remove(); tiles.delete(name); }
  }
  for (const r of s.replicas) {
    let tile = tiles.get(r.name);
    if (!tile) {
      tile = make("li");
      tile.append(make("b", r.name), make("span"), make("i"));
      tiles.set(r.name, tile);
    }
    const list = [...box.children].find((e) => e.dataset.role === r.role).lastChild;
    if (tile.parentNode !== list) list.append(tile);
    tile.className = `replica ${r.hit ? "hit" : up(r) ? "" : "away"}`;
    const rate = r.rate ? `${Math.round(r.rate)} answers a second` : r.state || "idle";
    const text = r.hit ? `${up(r) ? "" : `${r.state}: `}${r.hit}` : up(r) ? rate : r.state;
    if (tile.children[1].textContent !== text) tile.children[1].textContent = text;
    tile.children[2].style.transform = `scaleX(${up(r) ? r.rate / most : 0})`;
  }
}

const span = 120;
const shape = (tag, attributes) => {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  return e;
};

// plot draws shapes over the faults; heights are shares of it from the bottom.
function plot(id, s, label, ticks, shapes) {
  const end = Math.max(span, s.elapsed / 1e9), from = end - span;
  const svg = shape("svg", { viewBox: `0 0 ${span} 100`, preserveAspectRatio: "none", role: "img", "aria-label": label });
  for (const [share] of ticks) svg.append(shape("line", { class: "grid", x1: 0, x2: span, y1: 100 - 100 * share, y2: 100 - 100 * share }));
  for (const f of s.faults) {
    const start = f.start / 1e9 - from, stop = (f.end || s.elapsed) / 1e9 - from;
    if (stop > 0) svg.append(shape("rect", { class: f.class, x: start, width: Math.max(.4, stop - start), y: 0, height: 100 }));
  }
  shapes(svg, from);
  byId(id).replaceChildren(svg, ...ticks.map(([share, text]) => {
    const e = make("span", text);
    e.style.top = `${100 - 100 * share}%`;
    return e;
  }));
}

function curves(s) {
  const totals = s.seconds.map((t) => t.ok + t.failed + t.unknown);
  const most = Math.max(1, ...totals);
  const step = 10 ** Math.floor(Math.log10(most));
  const top = [1, 2, 3, 4, 5, 6, 8, 10].map((n) => n * step).find((n) => n >= most);
  const ticks = [0, .5, 1].map((share) => [share, number(share * top)]);
  plot("requests-plot", s, `Requests a second, at most ${number(most)}`, ticks, (svg, from) => {
    for (const t of s.seconds) {
      let y = 100;
      for (const name of ["ok", "unknown", "failed"]) {
        const height = 100 * t[name] / top;
        if (height) svg.append(shape("rect", { class: name, x: t.at - from + .12, width: .76, y: y -= height, height }));
      }
    }
  });
  // From a millisecond to ten seconds.
  const share = (ns) => Math.min(1, Math.max(0, Math.log10(ns / 1e6) / 4));
  plot("p99-plot", s, `The 99th percentile of latency, now ${latency(s.p99)}`, [[0, "1 ms"], [.25, "10 ms"], [.5, "100 ms"], [.75, "1 s"], [1, "10 s"]], (svg, from) => {
    let path = "", pen = "M";
    for (const t of s.seconds) {
      if (t.p99) path += `${pen}${t.at - from + .5} ${100 - 100 * share(t.p99)}`;
      pen = t.p99 ? "L" : "M";
    }
    svg.append(shape("path", { class: "p99", d: path }));
  });
}

const notices = { hidden: "nothing", gateway: "an attempt that fails", outage: "a request that fails" };

function faults(s) {
  if (!s.faults.length) return;
  byId("faults").replaceChildren(...s.faults.slice(-12).reverse().map((f) => {
    const row = make("tr", "", f.end ? "" : "now");
    const notice = make("td");
    notice.append(make("span", notices[f.class] ?? f.class, `tag ${f.class}`));
    row.append(make("td", whole(f.start), "n"), make("td", f.error || f.name), notice, make("td", f.end ? latency(f.end - f.start) : "under way", "n"));
    return row;
  }));
}

let board = "", drawn = 0;

function boards(names) {
  byId("boards").hidden = !names.length;
  if (byId("choice").childElementCount !== names.length) {
    byId("choice").replaceChildren(...names.map((name) => {
      const button = make("button", name);
      button.type = "button";
      button.setAttribute("aria-pressed", "false");
      button.addEventListener("click", () => {
        board = board === name ? "" : name;
        drawn = 0;
        for (const b of byId("choice").children) b.setAttribute("aria-pressed", String(b === button && board !== ""));
        byId("board").hidden = true;
        draw();
      });
      return button;
    }));
  }
  draw();
}

// draw loads the chosen dashboard anew, and shows it once it is there.
function draw() {
  if (!board || byId("boards").hidden || Date.now() - drawn < 5000) return;
  drawn = Date.now();
  const name = board, next = new Image();
  next.addEventListener("load", () => {
    if (name !== board) return;
    byId("board").src = next.src;
    byId("board").alt = `The dashboard ${name} as it is now`;
    byId("board").hidden = false;
  });
  next.src = `dashboards/${name}.svg?${drawn}`;
}

const trouble = (text) => {
  set("trouble", text);
  byId("trouble").hidden = !text;
};

const source = new EventSource("events");
source.addEventListener("message", (e) => {
  const s = JSON.parse(e.data);
  trouble("");
  if (!s.run.scenario && !s.over) return set("said", s.doing ?? "");
  head(s);
  cards(s);
  replicas(s);
  curves(s);
  faults(s);
  boards(s.boards ?? []);
  if (s.over) source.close(); // or it would ask again
});
source.addEventListener("error", () => trouble("The trial does not answer: it has ended, or was broken off. What is shown is what was last known."));
