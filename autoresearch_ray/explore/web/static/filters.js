// Which births are wanted: island, operator, model, status, generations, words. Kept in the address, shared by tree and ideas.

import { get } from "./api.js";
import { h, put, line, status } from "./dom.js";
import * as state from "./state.js";

const NAMES = ["island", "operator", "model", "status", "generation", "q"];

export const active = () => NAMES.some((name) => state.param(name));

/** Return the filters as a query for the server. */
export function query() {
  const asked = new URLSearchParams();
  for (const name of NAMES) if (state.param(name)) asked.set(name, state.param(name));
  return asked.toString();
}

/** Draw the filters of a run whose points are known. */
export function draw(bar, points, before = []) {
  const islands = [...new Set(points.island)].sort((a, b) => a - b);
  const choose = (name, label, values, word = (value) => value) =>
    values.length < 2 && !state.param(name)
      ? null
      : h(
          `select.field${state.param(name) ? ".set" : ""}`,
          { "aria-label": label, onchange: (event) => state.set({ [name]: event.target.value }, true) },
          h("option", { value: "" }, `All ${label}`),
          values.map((value) => h("option", { value, selected: String(value) === state.param(name) }, line(word(value)))),
        );
  const typed = (event) => {
    clearTimeout(typed.waiting);
    typed.waiting = setTimeout(() => state.set({ [event.target.name]: event.target.value.trim() }, true), 250);
  };
  const focused = document.activeElement?.name;
  if (["q", "generation"].includes(focused) && bar.contains(document.activeElement)) return;
  put(
    bar,
    before,
    choose("operator", "operators", points.head.operators),
    choose("island", "islands", islands, (value) => `island ${value}`),
    choose("model", "models", points.head.models.filter(Boolean)),
    choose("status", "outcomes", points.head.statuses, status),
    h("input.field", { name: "generation", size: 11, placeholder: "Generations", title: "Generations: 3 or 2-5", value: state.param("generation"), oninput: typed, "aria-label": "Generations, as 3 or 2-5" }),
    h("input.field.search", { type: "search", name: "q", placeholder: "Search ideas  /", value: state.param("q"), oninput: typed, "aria-label": "Search hypotheses and reasons" }),
    active() ? h("button.text-button", { onclick: () => state.set(Object.fromEntries(NAMES.map((name) => [name, ""]))) }, "clear") : null,
  );
}

let searched = { words: "", version: -1, found: null };

/** Return which positions pass: a byte each. */
export async function mask(points, version) {
  const passed = new Uint8Array(points.head.count).fill(1);
  const number = (name) => (state.param(name) === "" ? null : Number(state.param(name)));
  const code = (name, list) => (state.param(name) === "" ? null : list.indexOf(state.param(name)));
  const island = number("island"), operator = code("operator", points.head.operators), model = code("model", points.head.models), outcome = code("status", points.head.statuses);
  const [first, last = first] = state.param("generation").split("-").filter(Boolean).map(Number);
  for (let at = 0; at < passed.length; at++) {
    if (
      (island !== null && points.island[at] !== island) || (operator !== null && points.operator[at] !== operator) ||
      (model !== null && points.model[at] !== model) || (outcome !== null && points.status[at] !== outcome) ||
      (Number.isFinite(first) && (points.generation[at] < first || points.generation[at] > last))
    ) passed[at] = 0;
  }
  const words = state.param("q");
  if (words) {
    if (searched.words !== words || searched.version !== version) {
      const { positions } = await get(`/api/search?q=${encodeURIComponent(words)}`);
      searched = { words, version, found: new Uint8Array(points.head.count) };
      for (const at of positions) if (at < searched.found.length) searched.found[at] = 1;
    }
    for (let at = 0; at < passed.length; at++) passed[at] &= searched.found[at];
  }
  return passed;
}
