// Shows the figures under the pointer. The page is complete without it.
"use strict";
(() => {
  const box = document.getElementById("timeline");
  const plot = box.querySelector(".plot svg");
  const cross = box.querySelector(".cross");
  const tip = box.querySelector(".tip");
  const data = JSON.parse(document.getElementById("series").textContent);
  const columns = data.ok.length;
  let column = -1;

  const time = (s) => data.span < 600 ? s + " s" : Math.floor(s / 60) + ":" + String(s % 60).padStart(2, "0");

  function show(at) {
    column = Math.min(Math.max(at, 0), columns - 1);
    const from = column * data.width;
    const to = Math.min(from + data.width, data.span);
    const faults = (data.faults || []).filter((f) => f.from < to && f.to >= from).map((f) => f.name);
    const some = [["refused", data.refused], ["unknown", data.unknown], ["failed", data.failed]]
      .filter(([, of]) => of[column] > 0).map(([name, of]) => of[column] + " " + name);
    const lines = [
      time(from) + " – " + time(to),
      [data.ok[column] + " ok"].concat(some).join(", "),
      data.ok[column] || some.length ? "p50 " + data.p50[column] + ", p99 " + data.p99[column] : "no answer",
      data.attempts[column] + " failed attempts, " + data.retries[column] + " retries",
    ];
    for (const name of faults.slice(0, 6)) lines.push("⚡ " + name);
    if (faults.length > 6) lines.push("and " + (faults.length - 6) + " more faults");
    tip.textContent = lines.join("\n");
    cross.hidden = tip.hidden = false;

    const outer = box.getBoundingClientRect();
    const inner = plot.getBoundingClientRect();
    const x = inner.left - outer.left + inner.width * (from + to) / 2 / data.span;
    cross.style.left = x + "px";
    const left = x + 14 + tip.offsetWidth < outer.width ? x + 14 : x - 14 - tip.offsetWidth;
    tip.style.left = Math.max(left, 4) + "px";
  }

  function hide() {
    cross.hidden = tip.hidden = true;
    column = -1;
  }

  box.addEventListener("pointermove", (e) => {
    const inner = plot.getBoundingClientRect();
    const share = (e.clientX - inner.left) / inner.width;
    if (share < 0 || share > 1) hide();
    else show(Math.floor(share * data.span / data.width));
  });
  box.addEventListener("pointerleave", hide);

  // The same with the arrow keys.
  box.tabIndex = 0;
  box.setAttribute("aria-label", "Timeline; the arrow keys move through it");
  box.setAttribute("role", "group");
  tip.setAttribute("role", "status");
  box.addEventListener("keydown", (e) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
    if (e.key === "Escape") hide();
    if (!step) return;
    e.preventDefault();
    show(column < 0 ? 0 : column + step);
  });
  box.addEventListener("blur", hide);
})();
