// All births as a table of ideas: what was tried, what came of it, what it cost.

import { columnsOnce, get } from "./api.js";
import { h, put, line, short, count, dollars, duration } from "./dom.js";
import * as state from "./state.js";
import * as filters from "./filters.js";
import { interval, gained, score, operator } from "./marks.js";

const COLUMNS = [
  ["number", "Birth", "w-id"], ["hypothesis", "Idea", ""], ["operator", "By", "w-by"], ["score", "Score", "w-score"],
  ["gain", "Change, 95 %", "w-gain"], ["generation", "Gen.", "w-small num"], ["usd", "Model", "w-small num"], ["hours", "Slot time", "w-cost num"],
];
const FALLING = new Set(["gain", "usd", "hours", "number", "generation"]);

let shared = null, main = null, body = null, more = null, bar = null, scale = 0.01, loaded = 0, found = 0, asking = null;

const seen = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && loaded < found && next());

export async function enter(given, all) {
  main = given;
  shared = all;
  bar = h("div.bar");
  body = h("tbody");
  more = h("div.more");
  put(main, bar, h("table.ideas", null, h("thead"), body), more);
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row?.dataset.variant) state.set({ v: row.dataset.variant });
  });
  body.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.dataset.variant) state.set({ v: event.target.dataset.variant });
  });
  await update(all, true);
  seen.observe(more);
}

export function leave() {
  seen.disconnect();
  asking = null;
}

const sort = () => (COLUMNS.some(([name]) => name === state.param("sort")) ? state.param("sort") : "gain");
const rising = () => (state.param("order") || (FALLING.has(sort()) ? "down" : "up")) === "up";

export async function update(all) {
  shared = all;
  const wanted = `${filters.query()}&sort=${sort()}&order=${rising() ? "up" : "down"}`;
  const points = await columnsOnce("/api/points", shared.run.version);
  filters.draw(bar, points);
  heads();
  const fresh = `${wanted}&version=${shared.run.version}`;
  if (asking !== fresh) {
    asking = fresh;
    loaded = 0;
    await next();
  }
  mark();
}

function heads() {
  const cell = ([name, word, kind]) => {
    const sorted = name === sort();
    const order = sorted ? (rising() ? "down" : "up") : FALLING.has(name) ? "down" : "up";
    return h(`th.${kind.replaceAll(" ", ".")}`.replace(/\.$/, ""), { "aria-sort": sorted ? (rising() ? "ascending" : "descending") : null }, h("button", { onclick: () => state.set({ sort: name, order }, true) }, word, sorted ? (rising() ? " ↑" : " ↓") : ""));
  };
  put(main.querySelector("thead"), h("tr", null, COLUMNS.map(cell)));
}

async function next() {
  const wanted = asking, from = loaded;
  const page = await get(`/api/ideas?${wanted}&skip=${from}`);
  if (asking !== wanted || loaded !== from) return;
  if (from === 0) {
    put(body);
    main.scrollTop = 0;
    const gains = page.ideas.flatMap((idea) => [Math.abs(idea.gain ?? 0), 2 * (idea.gain_error ?? 0)]).filter((value) => value > 0).sort((a, b) => a - b);
    scale = gains[Math.floor(0.9 * gains.length)] || 0.01;
  }
  loaded += page.ideas.length;
  found = page.found;
  body.append(...page.ideas.map(row));
  more.textContent = found === 0 ? "No birth passes these filters." : loaded < found ? `${count(loaded)} of ${count(found)}` : `${count(found)} births`;
  mark();
}

function row(idea) {
  const lower = idea.lower_is_better;
  return h(
    "tr",
    { "data-variant": idea.variant_id, tabindex: 0 },
    h("td.w-id.mono", { title: `birth ${idea.number}` }, idea.champion ? "★ " : "", short(idea.variant_id)),
    h("td.what", null, line(idea.hypothesis), idea.reason ? h("span.reason", null, line(idea.reason)) : null),
    h("td.w-by", { title: line(idea.model) }, operator(idea.operator)),
    h("td.w-score", null, score(idea)),
    h("td.w-gain", null, idea.status === "completed" ? [interval(idea.gain, idea.gain_error, scale, lower), gained(idea.gain, idea.gain_error, lower)] : h("span.faint", null, "–")),
    h("td.w-small.num", null, idea.generation),
    h("td.w-small.num", null, idea.usd ? dollars(idea.usd) : h("span.faint", null, "–")),
    h("td.w-cost.num", null, idea.hours ? duration(3600 * idea.hours) : h("span.faint", null, "–")),
  );
}

function mark() {
  for (const each of body.children) each.setAttribute("aria-selected", String(each.dataset.variant === state.param("v")));
}
