// One variant: what was tried, what it brought and how sure that is, its relatives, its code, its trainings, what it cost.

import { get, Refused } from "./api.js";
import { $, h, s, put, painted, line, block, short, number, plusMinus, count, plural, status, duration, quantity, bytes, dollars } from "./dom.js";
import * as state from "./state.js";
import { gained, score, operator, curves } from "./marks.js";
import { source, difference } from "./code.js";
import { linear } from "./axes.js";

const panel = $("panel");
let showing = null;
let detail = null;
let sources = null;
let tab = "overview";

export const shown = () => showing !== null;

export function close() {
  if (!showing) return;
  showing = detail = sources = null;
  panel.hidden = true;
  document.body.classList.remove("open");
}

/** Show a variant; its head at once, code when it is asked for. */
export async function open(identity, shared) {
  if (identity === showing) return;
  showing = identity;
  sources = null;
  panel.hidden = false;
  if (!document.documentElement.dataset.ready) document.body.classList.add("open"); // nothing was drawn in its place yet
  try {
    const found = await get(`/api/variant/${encodeURIComponent(identity)}`);
    if (showing !== identity) return;
    detail = found;
    draw(shared);
    await painted();
    if (showing !== identity) return;
    panel.dataset.drawn = performance.now();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    detail = null;
    put(panel, h("header", null, h("div.line", null, h("span.identity", null, line(identity).slice(0, 40)), h("span.grow"), closer())), h("div.body", null, h("p", null, line(error.message))));
  }
  document.body.classList.add("open"); // last: the view beside it is drawn again, which whoever clicked need not wait for
}

/** Go to a relative: the better parent, the best child, or a sibling. */
export async function walk(key) {
  if (!detail) return;
  const parent = detail.parent;
  if (key === "ArrowLeft" && parent) return go(parent);
  if (key === "ArrowRight") return go(detail.children_best?.[0]);
  if (!parent) return;
  const siblings = detail.siblings ?? [];
  const at = siblings.indexOf(detail.variant_id);
  go(siblings[(at + (key === "ArrowDown" ? 1 : siblings.length - 1)) % siblings.length]);
}

function go(identity) {
  if (identity) state.set({ v: identity });
}

const closer = () => h("button.icon", { title: "Close (esc)", "aria-label": "Close", onclick: () => state.set({ v: "" }) }, s("svg", { viewBox: "0 0 16 16" }, s("path", { d: "M3.5 3.5l9 9M12.5 3.5l-9 9" })));

function draw(shared) {
  const tabs = { overview: "Overview", changes: "Changes", source: "Source", log: "Log", prompt: "Prompt" };
  if (!detail.model && !detail.conversation?.length) delete tabs.prompt;
  if (!tabs[tab]) tab = "overview";
  const confirmed = detail.confirmed;
  const head = h(
    "header",
    null,
    h(
      "div.line",
      null,
      h("span.identity", null, detail.variant_id),
      detail.champion ? h("span.pill.sure", null, "★ champion") : confirmed ? h("span.pill.sure", null, "was champion") : null,
      detail.status !== "completed" ? h("span.pill", null, status(detail.status)) : confirmed ? null : h("span.pill.unsure", { title: "Not confirmed on fresh seeds" }, "unconfirmed"),
      h("span.faint.by", null, operator(detail.operator)),
      h("span.grow"),
      h("a.text-button", { href: state.address("compare", { ids: compared() }) }, "compare"),
      closer(),
    ),
    h("p.hypothesis", null, line(detail.hypothesis) || h("span.faint", null, "no hypothesis was given")),
    detail.reason ? h("div.reason-box", null, line(detail.reason)) : null,
    h("div.tabs", { role: "tablist" }, Object.entries(tabs).map(([name, word]) => h("button", { role: "tab", "aria-selected": String(name === tab), onclick: () => { tab = name; draw(shared); } }, word))),
  );
  const body = h("div.body", { role: "tabpanel" });
  put(panel, head, body);
  const drawers = { overview, changes, source: whole, log, prompt };
  drawers[tab](body, shared);
  panel.dataset.variant = detail.variant_id;
}

function compared() {
  const ids = state.param("ids").split(",").filter(Boolean);
  const base = ids.length ? ids : detail.parent ? [detail.parent] : [];
  return [...new Set([...base, detail.variant_id])].slice(0, 6).join(",");
}

// --------------------------------------------------------------------------------------------------------- overview

function overview(body) {
  const lower = detail.lower_is_better;
  const figure = (label, ...value) => h("div.figure", null, h("div.label", null, label), h("div.value", null, value));
  body.append(
    h(
      "section.score",
      null,
      figure(line(detail.metric), Number.isFinite(detail.val_bpb) ? [number(detail.val_bpb), h("small", null, `${plusMinus(detail.standard_error)} (${detail.replicates})`)] : "–"),
      figure("change", gained(detail.gain, detail.gain_error, lower)),
      figure("against the seed", gained(detail.gain_against_seed, detail.gain_against_seed_error, lower)),
      figure("cost", dollars(detail.llm_usd), h("small", null, ` · ${duration(detail.wall_seconds)}`)),
    ),
    relatives(),
  );
  const done = detail.experiments.filter((each) => Number.isFinite(each.val_bpb));
  if (detail.experiments.length) body.append(h("section", null, h("h3", null, `Trainings${Number.isFinite(detail.sigma) ? ` · one varies by σ ${number(detail.sigma)}` : ""}`), done.length ? strip(done) : null, table()));
  if (done.length) body.append(h("section", null, h("h3", null, "Training loss at equal progress"), training()));
  if (detail.experiments.length) body.append(h("section", null, h("h3", null, "Where its time went"), phases()));
  body.append(h("section", null, h("h3", null, "Birth"), facts()));
}

function relatives() {
  const rows = detail.parents.map((parent) => relative(parent, detail.parents.length > 1 ? (parent.variant_id === detail.parent ? "better parent" : "other parent") : "parent"));
  const more = detail.children.length > 6 ? ` and ${detail.children.length - 6} more` : "";
  const children = detail.children.length
    ? h("div.quiet", null, `${plural(detail.children.length, "child").replace("childs", "children")}, ${plural(detail.descendants, "descendant")}: `, (detail.children_best ?? detail.children).slice(0, 6).map((child, at) => [at ? " " : "", h("a.link.mono", { href: link(child) }, short(child))]), more)
    : h("div.faint", null, "No children.");
  return h("section", null, h("h3", null, "Relatives"), h("div.relatives", null, rows, children));
}

function relative(parent, word) {
  return h("a.relative", { href: link(parent.variant_id), title: word }, h("span.mono", null, short(parent.variant_id)), score(parent), gained(parent.gain, parent.gain_error, detail.lower_is_better), h("span.cut.quiet", null, line(parent.hypothesis)));
}

const link = (identity) => state.address(state.view(), { v: identity });

/** Draw the replicates on a line, with the mean's interval, and the parents' means below it. */
function strip(done) {
  const width = Math.min(590, innerWidth - 36), values = done.map((each) => each.val_bpb), mean = detail.val_bpb;
  const others = detail.parents.filter((parent) => Number.isFinite(parent.val_bpb));
  const error = Number.isFinite(detail.standard_error) ? detail.standard_error : 0;
  const all = [...values, ...others.map((parent) => parent.val_bpb), mean - 2 * error, mean + 2 * error].filter(Number.isFinite);
  const low = Math.min(...all), high = Math.max(...all), pad = (high - low || Math.abs(low) * 1e-3) * 0.08;
  const x = linear(low - pad, high + pad, 8, width - 8);
  const svg = s("svg", { viewBox: `0 0 ${width} 44`, role: "img", "aria-label": "Scores of the trainings" });
  svg.append(s("line.gridline", { x1: 8, x2: width - 8, y1: 16, y2: 16 }));
  if (error && Number.isFinite(mean)) svg.append(s("rect", { x: x(mean - 1.96 * error), y: 9, width: Math.max(1, x(mean + 1.96 * error) - x(mean - 1.96 * error)), height: 14, rx: 3, fill: "var(--accent-band)" }));
  for (const [place, parent] of others.entries()) {
    svg.append(s("path", { d: `M${x(parent.val_bpb)},24l-4,7h8z`, fill: "var(--ink-3)" }));
    if (place && Math.abs(x(parent.val_bpb) - x(others[0].val_bpb)) < 100) continue;
    svg.append(s("text", { x: x(parent.val_bpb), y: 43, "text-anchor": x(parent.val_bpb) > width - 70 ? "end" : x(parent.val_bpb) < 70 ? "start" : "middle" }, `parent ${number(parent.val_bpb)}`));
  }
  for (const value of values) svg.append(s("circle", { cx: x(value), cy: 16, r: 4, fill: "var(--accent)", "fill-opacity": 0.7 }));
  if (Number.isFinite(mean)) svg.append(s("line", { x1: x(mean), x2: x(mean), y1: 6, y2: 26, stroke: "var(--accent)", "stroke-width": 2 }));
  return h("div.strip", null, svg);
}

function table() {
  const names = ["seed", line(detail.metric), "holdout", "tokens", "params", "memory", "where"];
  return h("div.scroll", null, h("table.plain", null, h("thead", null, h("tr", null, names.map((name) => h("th", null, name)))), h("tbody", null, detail.experiments.map((each) => h("tr", null, h("td", null, each.seed), h("td", null, Number.isFinite(each.val_bpb) ? number(each.val_bpb, 6) : h("span.bad", { title: line(each.reason) }, status(each.status))), h("td", null, number(each.holdout_bpb, 6)), h("td", null, quantity(each.tokens)), h("td", null, quantity(each.parameters)), h("td", null, bytes(each.peak_memory_bytes)), h("td", null, line(each.gpu || each.node || each.hardware), each.verified ? "" : " · unverified", each.claim_flag ? h("span.warn", { title: line(each.claim_flag) }, " · claims differ") : null))))));
}

function training() {
  const own = detail.experiments.filter((each) => each.status === "completed");
  const series = own.map((each, at) => ({ name: at ? "" : "this variant", points: each.curve, colour: "var(--accent)", strong: at === 0 }));
  detail.parents.forEach((parent, at) => series.push({ name: `parent ${short(parent.variant_id)}`, points: parent.curve, colour: `var(--c${at ? 1 : 0})` }));
  return curves(series, Math.min(590, innerWidth - 36));
}

function phases() {
  const sum = (name) => detail.experiments.reduce((total, each) => total + (each[name] || 0), 0);
  const wall = sum("wall_seconds"), parts = [["start-up", sum("startup_seconds"), "var(--c2)"], ["training", sum("train_seconds"), "var(--accent)"], ["scoring", sum("scoring_seconds"), "var(--c0)"]];
  const rest = wall - parts.reduce((total, [, seconds]) => total + seconds, 0);
  if (rest > 0.005 * wall) parts.push(["rest", rest, "var(--line-2)"]);
  const block = ([, seconds, colour]) => {
    const part = h("i");
    part.style.flex = String(Math.max(seconds, 0));
    part.style.background = colour;
    return part;
  };
  const key = ([name, seconds, colour]) => {
    const dot = h("i");
    dot.style.background = colour;
    return h("span", null, dot, `${name} ${duration(seconds)}`);
  };
  return h("div", null, h("div.phases", null, parts.map(block)), h("div.keys", null, parts.map(key), h("span.faint", null, `${duration(wall)} in all`)));
}

function facts() {
  const rows = [
    ["birth", `${count(detail.number)}, generation ${detail.generation}, island ${detail.island}, ${detail.created_at.slice(0, 19).replace("T", " ")} UTC`],
    ["operator", `${detail.operator}${detail.model ? ` by ${line(detail.model)}` : ""}${Number.isFinite(detail.step_size) ? `, step size ${detail.step_size.toPrecision(3)}` : ""}`],
    detail.llm_tokens_in || detail.llm_tokens_out ? ["language model", `${quantity(detail.llm_tokens_in)} tokens in, ${quantity(detail.llm_tokens_out)} out, ${dollars(detail.llm_usd)}`] : null,
    detail.carried_from ? ["carried from", line(detail.carried_from)] : null,
    ["class", line(detail.class)],
  ];
  if (detail.confirmed) rows.unshift(["confirmed", `${detail.confirmed.confirmed_at.slice(0, 16).replace("T", " ")} UTC: ${number(detail.confirmed.posterior_mean)} ±${number(detail.confirmed.posterior_sd)}, P(better) ${number(detail.confirmed.p_better, 3)}${Number.isFinite(detail.confirmed.gain) ? `, gain ${number(detail.confirmed.gain)} ±${number(detail.confirmed.gain_sd)} over ${detail.confirmed.trainings} fresh trainings against ${short(detail.confirmed.against)}` : ""}`]);
  return h("dl.facts", null, rows.filter(Boolean).map(([name, value]) => [h("dt", null, name), h("dd", null, value)]));
}

// -------------------------------------------------------------------------------------------------- code, log, prompt

async function withSources(body, drawn) {
  const identity = showing;
  body.append(h("div.faint", null, "Reading the source…"));
  try {
    sources ??= await get(`/api/variant/${encodeURIComponent(identity)}/source`);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    put(body, h("p", null, line(error.message)));
    return;
  }
  if (showing === identity && body.isConnected) put(body, drawn(sources));
}

function changes(body) {
  return withSources(body, ({ diffs, source: text }) => {
    if (!diffs.length) return h("div.faint", null, "The seed has no parent: see its source.");
    if (!text) return h("div.faint", null, "There is no source: the operator gave none, or its part is damaged.");
    return diffs.map(({ variant_id, lines }, at) => h("section", null, h("h3", null, `against ${diffs.length > 1 ? (at ? "the second parent" : "the first parent") : "its parent"} `, h("a.link.mono", { href: link(variant_id) }, short(variant_id))), difference(lines)));
  });
}

const whole = (body) => withSources(body, ({ source: text }) => (text ? source(text) : h("div.faint", null, "There is no source.")));

function log(body) {
  const logs = detail.experiments.filter((each) => each.log_tail);
  if (!logs.length) body.append(h("div.faint", null, "Nothing was printed."));
  for (const each of logs) body.append(h("section", null, h("h3", null, `seed ${each.seed} · ${status(each.status)}`), h("pre.log", { tabindex: 0 }, block(each.log_tail))));
}

function prompt(body) {
  const turns = detail.conversation ?? [];
  if (!turns.length) body.append(h("div.faint", null, "The prompt and the reply of this birth were not kept."));
  for (const turn of turns) body.append(h("div.turn", null, h("b", null, line(turn.role)), h("pre.log", { tabindex: 0 }, block(turn.content))));
}
