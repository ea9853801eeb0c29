// Variants beside each other, and two runs at equal budgets.

import { get, Refused } from "./api.js";
import { h, s, put, line, short, number, count, plural, dollars, duration, quantity } from "./dom.js";
import * as state from "./state.js";
import { linear, ticks, words } from "./axes.js";
import { gained, score, operator, curves } from "./marks.js";
import { difference } from "./code.js";

const INKS = ["var(--c0)", "var(--c2)", "var(--c1)", "var(--c3)", "var(--c4)", "var(--c6)"];
const AXES = { births: "births", hours: "hours", slot_hours: "slot-hours", usd: "dollars" };

let shared = null, page = null, key = "";

export async function enter(main, given) {
  shared = given;
  page = h("div.page");
  key = "";
  put(main, page);
  await update(given);
}

export async function update(given, grown = false) {
  shared = given;
  const ids = state.param("ids").split(",").filter(Boolean), run = state.param("run"), axis = AXES[state.param("x")] ? state.param("x") : "births";
  const wanted = `${ids} ${run} ${axis}`;
  if (wanted === key && !grown) return;
  key = wanted;
  const chosen = ids.length ? ids : [shared.run.seed?.variant_id, shared.run.leader?.variant_id].filter(Boolean);
  const cards = [await attempt(() => variants([...new Set(chosen)])), await attempt(() => runs(run, axis))];
  if (key === wanted) put(page, cards);
}

async function attempt(make) {
  try {
    return await make();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return h("section.card", null, h("div.caution", null, line(error.message)));
  }
}

// --------------------------------------------------------------------------------------------------------- variants

async function variants(ids) {
  const adding = h("input.field", { placeholder: "Add an id or best…", "aria-label": "Add a variant", onkeydown: (event) => event.key === "Enter" && event.target.value.trim() && state.set({ ids: [...ids, event.target.value.trim()].join(",") }) });
  const head = h("header", null, h("h2", null, "Variants"), h("span.faint", null, "the last against the first"), h("span.grow"), adding);
  if (!ids.length) return h("section.card", null, head, h("p.quiet", null, "Nothing has been scored yet."));
  const found = await get(`/api/compare?ids=${ids.map(encodeURIComponent).join(",")}`), shown = found.variants;
  const parts = [head, forest(shown, ids), h("div.scroll", null, facts(shown))];
  const series = shown.map((each, at) => ({ name: short(each.variant_id), points: each.curve, colour: INKS[at], strong: true }));
  parts.push(h("h3", null, "Training loss at equal progress"), curves(series, Math.min(1100, innerWidth - 66), 240));
  if (shown.length > 1) parts.push(h("h3", null, "What the last changed against the first: ", gained(found.gain, found.gain_error, found.lower_is_better)), difference(found.diff));
  return h("section.card", null, parts);
}

/** Draw each variant's mean with its 95 % interval and its single trainings, on one scale. */
function forest(shown, ids) {
  const all = shown.flatMap((each) => [...each.experiments.map((one) => one.val_bpb), each.val_bpb - 2 * (each.standard_error ?? 0), each.val_bpb + 2 * (each.standard_error ?? 0)]).filter((value) => Number.isFinite(value) && value !== 0);
  const low = Math.min(...all), high = Math.max(...all), pad = (high - low || Math.abs(low) * 1e-3 || 1) * 0.05;
  const scale = linear(low - pad, high + pad, 1, 99), x = (value) => `${scale(value)}%`;
  return h(
    "div.forest",
    null,
    shown.map((each, at) => {
      const svg = s("svg", { role: "img", "aria-label": "Score with its interval" });
      svg.append(s("line.gridline", { x1: 0, x2: "100%", y1: 11, y2: 11 }));
      for (const one of each.experiments) if (Number.isFinite(one.val_bpb)) svg.append(s("circle", { cx: x(one.val_bpb), cy: 11, r: 3, fill: INKS[at], "fill-opacity": 0.35 }));
      if (Number.isFinite(each.val_bpb)) {
        const half = 1.96 * (each.standard_error ?? 0);
        svg.append(s("line", { x1: x(each.val_bpb - half), x2: x(each.val_bpb + half), y1: 11, y2: 11, stroke: INKS[at], "stroke-width": 2.5, "stroke-linecap": "round" }), s("circle", { cx: x(each.val_bpb), cy: 11, r: 4.5, fill: INKS[at] }));
      }
      const drop = ids.length > 1 ? h("button.text-button", { title: "Leave out", "aria-label": `Leave out ${short(each.variant_id)}`, onclick: () => state.set({ ids: shown.filter((other) => other !== each).map((other) => other.variant_id).join(",") }) }, "×") : null;
      return h("div.row", null, h("a.cut", { href: state.address("compare", { v: each.variant_id }), title: line(each.hypothesis) }, h("b.mono", null, short(each.variant_id)), " ", h("span.quiet", null, line(each.hypothesis))), svg, h("span", null, score(each), " ", drop));
    }),
  );
}

function facts(shown) {
  const sum = (each, name) => each.experiments.reduce((total, one) => total + (one[name] || 0), 0);
  const first = (each, name) => each.experiments.find((one) => one[name])?.[name];
  const rows = [
    ["operator", (each) => [operator(each.operator), each.model ? h("span.faint", null, ` ${line(each.model)}`) : null]],
    ["against the seed", (each) => gained(each.gain_against_seed, each.gain_against_seed_error, each.lower_is_better)],
    ["generation, island", (each) => `${each.generation}, ${each.island}`],
    ["parameters", (each) => quantity(first(each, "parameters"))],
    ["tokens", (each) => quantity(first(each, "tokens"))],
    ["steps", (each) => quantity(first(each, "steps"))],
    ["slot time", (each) => duration(sum(each, "wall_seconds"))],
    ["language model", (each) => dollars(each.llm_usd)],
  ];
  return h("table.plain", null, h("thead", null, h("tr", null, h("th"), shown.map((each, at) => {
    const name = h("th.mono", null, short(each.variant_id));
    name.style.color = INKS[at];
    return name;
  }))), h("tbody", null, rows.map(([name, value]) => h("tr", null, h("td.faint", null, name), shown.map((each) => h("td", null, value(each)))))));
}

// ------------------------------------------------------------------------------------------------------------- runs

async function runs(chosen, axis) {
  const others = await get("/api/runs");
  const pick = h("select.field", { "aria-label": "The other run", onchange: (event) => state.set({ run: event.target.value }) }, h("option", { value: "" }, others.length ? "Choose another run" : "No other run lies beside this one"), others.map((name) => h("option", { value: name, selected: name === chosen }, line(name))));
  const head = h("header", null, h("h2", null, "Runs"), h("span.faint", null, "the best so far, at equal budgets"), h("span.grow"), pick);
  if (!chosen) return h("section.card", null, head, h("p.quiet", null, "Choose a run of the same storage folder to see both best scores at equal births, hours, slot-hours or dollars."));
  let found;
  try {
    found = await get(`/api/runs/${encodeURIComponent(chosen)}`);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return h("section.card", null, head, h("div.caution", null, line(error.message)));
  }
  const axes = h("div.segments", null, Object.keys(AXES).map((name) => h("button", { "aria-pressed": String(name === axis), onclick: () => state.set({ x: name === "births" ? "" : name }, true) }, AXES[name].replace(/^./, (letter) => letter.toUpperCase()))));
  return h("section.card", null, head, h("div.caution", null, found.caution), h("p", null, axes), budgets(found, axis), ends(found, axis));
}

function budgets(found, axis) {
  const width = Math.min(1100, innerWidth - 66), height = 300, names = width < 600 ? 84 : 150, end = found.equal[axis], lower = found.lower_is_better;
  if (!(end > 0)) return h("p.quiet", null, `Neither run has spent any ${AXES[axis]}.`);
  const within = found.curves.map((curve) => curve[axis].map((at, place) => [at, curve.means[place], curve.errors[place] ?? 0]).filter(([at, mean]) => at <= end && Number.isFinite(mean)));
  const all = within.flat().flatMap(([, mean, error]) => [mean - 1.96 * error, mean + 1.96 * error]).sort((a, b) => a - b);
  if (!all.length) return h("p.quiet", null, "Nothing was scored within the shorter budget.");
  const x = linear(0, end, 60, width - names), y = linear(all[0], all[all.length - 1], height - 30, 10);
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Best so far of two runs" });
  const rows = ticks(...y.domain, 5), columns = ticks(0, end, 7);
  words(rows).forEach((word, at) => svg.append(s("line.gridline", { x1: 60, x2: width - names, y1: y(rows[at]), y2: y(rows[at]) }), s("text", { x: 52, y: y(rows[at]) + 4, "text-anchor": "end" }, word)));
  words(columns).forEach((word, at) => svg.append(s("text", { x: x(columns[at]), y: height - 8, "text-anchor": "middle" }, word)));
  within.forEach((steps, at) => {
    if (!steps.length) return;
    let path = "", top = "", bottom = "";
    steps.forEach(([place, mean, error], step) => {
      const from = x(place), to = step + 1 < steps.length ? x(steps[step + 1][0]) : x(end);
      path += `${step ? "L" : "M"}${from},${y(mean)}L${to},${y(mean)}`;
      top += `${step ? "L" : "M"}${from},${y(mean + 1.96 * error)}L${to},${y(mean + 1.96 * error)}`;
      bottom = `L${to},${y(mean - 1.96 * error)}L${from},${y(mean - 1.96 * error)}${bottom}`;
    });
    const last = steps[steps.length - 1][1];
    svg.append(s("path", { d: `${top}${bottom}Z`, fill: INKS[at], "fill-opacity": 0.12 }), s("path.curve", { d: path, stroke: INKS[at] }), s("text.name", { x: width - names + 10, y: y(last) + 4 + (at && Math.abs(y(last) - y(within[0].at(-1)?.[1] ?? 0)) < 16 ? (lower ? 16 : -16) : 0), fill: INKS[at] }, line(found.runs[at]).slice(0, 20)));
  });
  const frame = h("div.chart", null, svg);
  frame.style.height = "auto";
  return frame;
}

function ends(found, axis) {
  const rows = found.curves.map((curve) => {
    const within = curve[axis].map((at, place) => [at, place]).filter(([at]) => at <= found.equal[axis]);
    const last = within.length ? within[within.length - 1][1] : -1;
    return h("tr", null, h("td", null, line(curve.run)), h("td", null, last >= 0 ? [number(curve.means[last]), Number.isFinite(curve.errors[last]) ? ` ±${number(curve.errors[last])}` : ""] : "–"), h("td", null, count(curve.births)), h("td", null, plural(curve.experiments, "experiment")), h("td", null, Number.isFinite(curve.sigma) ? `σ ${number(curve.sigma)}` : "–"), h("td", null, curve.confirmed ? "champion confirmed" : "unconfirmed"));
  });
  return h("div.scroll", null, h("table.plain", null, h("thead", null, h("tr", null, ["run", `best within ${+found.equal[axis].toPrecision(4)} ${AXES[axis]}`, "births in all", "experiments in all", "noise", ""].map((name) => h("th", null, name)))), h("tbody", null, rows)));
}
