// Every experiment, the running champion with its interval, the holdout, the steps in words.

import { columnsOnce, identity } from "./api.js";
import { h, s, put, css, line, number, plusMinus, count, plural, dollars } from "./dom.js";
import * as state from "./state.js";
import { linear, ticks, words, typical, place } from "./axes.js";
import { paint, fit, rgb } from "./dots.js";
import { gained } from "./marks.js";
import { hovering, hush } from "./tip.js";

const AXES = { births: "births", hours: "hours", slot_hours: "", usd: "dollars for language models" };
const MARGIN = { left: 64, right: 22, top: 62, bottom: 34 };
const NORMAL_95 = 1.96;
const MOST_LABELS = 16;

let data = null, points = null, shared = null, element = null, canvas = null, under = null, over = null, layout = null, known = null;

const resized = new ResizeObserver(() => draw());

export async function enter(main, given) {
  shared = given;
  known = null;
  canvas = h("canvas", { role: "img", "aria-label": "Scores of all experiments" });
  over = s("svg.over");
  under = s("svg.over");
  element = h("div.plot", null, under, canvas, over, h("div.legend"));
  element.addEventListener("pointermove", hover);
  element.addEventListener("pointerleave", hush);
  element.addEventListener("click", pick);
  put(main, h("div.fill", null, h("div.headline"), h("div.bar"), element));
  await update(given);
  resized.observe(element);
}

export function leave() {
  resized.disconnect();
  hush();
}

export async function update(given) {
  shared = given;
  const version = shared.run.version;
  [data, points] = await Promise.all([columnsOnce("/api/progress", version), columnsOnce("/api/points", version)]);
  if (known === `${version} ${axis()}`) return; // only another variant was opened
  known = `${version} ${axis()}`;
  headline();
  bar();
  draw();
}

function headline() {
  const { run } = shared, leader = run.leader, lower = run.lower_is_better;
  const figure = (label, ...value) => h("div.figure", null, h("div.label", null, label), h("div.value", null, value));
  const failed = run.births - (run.statuses.completed || 0);
  put(
    document.querySelector(".headline"),
    leader
      ? figure(run.confirmed ? "champion" : "best, unconfirmed", h("a", { href: state.address("progress", { v: leader.variant_id }) }, number(run.score?.mean), h("small", null, plusMinus(run.score?.error), ` · ${run.score?.count ?? 0}× ${run.confirmed ? "fresh" : ""}`)))
      : figure("best", "–"),
    figure("against the seed", gained(run.gain, run.gain_error, lower)),
    figure("births", count(run.births), h("small", null, ` · ${count(failed)} failed`)),
    figure("experiments", count(run.experiments), run.carried ? h("small", null, ` + ${plural(run.carried, "birth")} carried over`) : null),
    figure("noise of one training", Number.isFinite(run.sigma) ? `σ ${number(run.sigma)}` : h("small", null, "not known yet")),
    run.usd ? figure("language models", dollars(run.usd)) : null,
    leader ? h("div.figure.wide", null, h("div.label", null, run.confirmed ? "what it does" : "what it does (may be luck)"), h("div.value.cut", null, line(leader.hypothesis))) : null,
  );
}

const axis = () => (AXES[state.param("x")] !== undefined ? state.param("x") : "births");

function bar() {
  const available = ["births", "hours", "slot_hours", ...(shared.run.usd ? ["usd"] : [])];
  const names = { births: "Births", hours: "Hours", slot_hours: data.head.slot_hours.replace(/^./, (c) => c.toUpperCase()), usd: "Dollars" };
  put(
    document.querySelector(".bar"),
    h("div.segments", { role: "group", "aria-label": "Horizontal axis" }, available.map((name) => h("button", { "aria-pressed": String(name === axis()), onclick: () => state.set({ x: name === "births" ? "" : name }, true) }, names[name]))),
    h("span.grow"),
    h("span.faint", null, `${line(shared.run.metric)}, ${shared.run.lower_is_better ? "lower" : "higher"} is better`),
  );
}

// ---------------------------------------------------------------------------------------------------------- drawing

function draw() {
  if (!data || !element?.isConnected) return;
  const { width, height } = element.getBoundingClientRect();
  if (width < 40 || height < 40) return;
  const narrow = width < 600, margin = { ...MARGIN, left: narrow ? 52 : MARGIN.left, right: narrow ? 12 : MARGIN.right };
  const scale = fit(canvas, width, height), along = data[axis()], lower = shared.run.lower_is_better;
  const steps = running();
  const anchors = [data.head.seed?.mean, ...steps.map((step) => step.mean)].filter(Number.isFinite);
  const [low, high] = typical(data.score, anchors, lower);
  let most = 0;
  for (const value of along) if (value > most) most = value;
  const x = linear(0, most * 1.01 || 1, margin.left, width - margin.right), y = linear(low, high, height - margin.bottom, margin.top);
  layout = { x, y, width, height, margin, xs: new Float32Array(along.length), ys: new Float32Array(along.length) };
  dots(along, scale, lower, [low, high]);
  const [rules, names] = grid();
  put(under, rules);
  put(over, names, band(steps), labels(steps));
  legend(steps);
}

function dots(along, scale, lower, [low, high]) {
  const { x, y, xs, ys, margin, height } = layout, total = along.length;
  const radii = new Float32Array(total), alphas = new Float32Array(total), colours = new Uint8Array(3 * total), order = new Int32Array(total);
  const grey = rgb(css("--dot")), red = rgb(css("--bad"));
  const size = Math.max(1.3, Math.min(3.4, 60 / Math.sqrt(total))), faint = total > 5000 ? 0.35 : 0.7;
  for (let at = 0; at < total; at++) {
    const score = data.score[at], failed = !Number.isFinite(score), worse = lower ? score > high : score < low;
    xs[at] = x(along[at]);
    ys[at] = failed ? margin.top - 16 : worse ? (lower ? margin.top - 5 : height - margin.bottom + 5) : y(score);
    radii[at] = failed ? Math.min(size, 1.8) : size;
    alphas[at] = failed || worse ? faint * 0.7 : faint;
    const ink = failed ? red : grey;
    colours[3 * at] = ink[0];
    colours[3 * at + 1] = ink[1];
    colours[3 * at + 2] = ink[2];
    order[at] = at;
  }
  paint(canvas, scale, { xs, ys, radii, colours, alphas, order });
}

/** Return the champions in their order, or else the best so far, as [{at, mean, error, ...}]. */
function running() {
  const { champions, records } = data.head;
  const chosen = champions.length ? champions.map((row) => ({ ...row, error: row.sd, sure: true })) : records.map((row) => ({ ...row, sure: false }));
  return chosen.map((row) => ({ ...row, at: row[axis()] })).filter((row) => Number.isFinite(row.at));
}

function grid() {
  const { x, y, width, height, margin } = layout, rules = [], parts = [];
  const rows = ticks(...y.domain, Math.max(3, height / 80)), columns = ticks(...x.domain, Math.max(3, width / 130));
  words(rows).forEach((word, at) => {
    rules.push(s("line.gridline", { x1: margin.left, x2: width - margin.right, y1: y(rows[at]), y2: y(rows[at]) }));
    parts.push(s("text", { x: margin.left - 8, y: y(rows[at]) + 4, "text-anchor": "end" }, word));
  });
  words(columns).forEach((word, at) => parts.push(s("text", { x: x(columns[at]), y: height - margin.bottom + 18, "text-anchor": "middle" }, word)));
  parts.push(s("text", { x: width - margin.right, y: height - 3, "text-anchor": "end" }, AXES[axis()] || data.head.slot_hours));
  const seed = data.head.seed;
  if (seed && seed.mean >= y.domain[0] && seed.mean <= y.domain[1]) {
    parts.push(s("line.seedline", { x1: margin.left, x2: width - margin.right, y1: y(seed.mean), y2: y(seed.mean) }), s("text.halo", { x: width - margin.right, y: y(seed.mean) - 6, "text-anchor": "end" }, `seed ${number(seed.mean)}`));
  }
  return [rules, parts];
}

function band(steps) {
  if (!steps.length) return null;
  const { x, y, width, margin } = layout, parts = [], end = width - margin.right;
  let lineTo = "", top = "", bottom = [];
  steps.forEach((step, at) => {
    const from = x(step.at), to = at + 1 < steps.length ? x(steps[at + 1].at) : end, half = NORMAL_95 * (step.error || 0);
    lineTo += `${at ? "L" : "M"}${from.toFixed(1)},${y(step.mean).toFixed(1)}L${to.toFixed(1)},${y(step.mean).toFixed(1)}`;
    top += `${at ? "L" : "M"}${from.toFixed(1)},${y(step.mean + half).toFixed(1)}L${to.toFixed(1)},${y(step.mean + half).toFixed(1)}`;
    bottom.unshift(`L${to.toFixed(1)},${y(step.mean - half).toFixed(1)}L${from.toFixed(1)},${y(step.mean - half).toFixed(1)}`);
  });
  const sure = steps[0].sure;
  parts.push(s("path.champion-band", { d: `${top}${bottom.join("")}Z` }), s(`path.champion-line${sure ? "" : ".unsure"}`, { d: lineTo }));
  const crowded = steps.length > 120;
  for (const step of steps) {
    if (!crowded) parts.push(s("circle", { cx: x(step.at), cy: y(step.mean), r: 3.6, fill: sure ? "var(--accent)" : "var(--bg)", stroke: sure ? "var(--bg)" : "var(--accent)", "stroke-width": 1.5 }));
    const held = data.head.holdouts[step.variant_id];
    if (Number.isFinite(held) && held <= y.domain[1] && held >= y.domain[0]) parts.push(s("path", { d: `M${x(step.at)},${y(held) - (crowded ? 2.5 : 4.5)}l${crowded ? 2.5 : 4.5},${crowded ? 2.5 : 4.5}l${crowded ? -2.5 : -4.5},${crowded ? 2.5 : 4.5}l${crowded ? -2.5 : -4.5},${crowded ? -2.5 : -4.5}z`, fill: crowded ? "var(--c1)" : "var(--bg)", stroke: "var(--c1)", "stroke-width": 1.4, "fill-opacity": 0.6 }));
  }
  return s("g", null, parts);
}

/** Write the hypotheses of the largest steps beside the line, where there is room. */
function labels(steps) {
  const { x, y, width, height, margin } = layout;
  const lower = shared.run.lower_is_better;
  const gains = steps.map((step, at) => (at ? (lower ? 1 : -1) * (steps[at - 1].mean - step.mean) : -1));
  const last = steps.length - 1;
  const wanted = width < 600 ? 4 : steps.length > 120 ? 9 : MOST_LABELS;
  const chosen = gains.map((gain, at) => [gain, at]).filter(([, at]) => at > 0).sort((a, b) => (b[1] === last) - (a[1] === last) || b[0] - a[0]).slice(0, wanted).map(([, at]) => steps[at]);
  const longest = width < 600 ? 22 : 40;
  const cut = (text) => (text.length > longest ? `${text.slice(0, longest - 1)}…` : text);
  const wishes = chosen.map((step) => ({ x: x(step.at), y: y(step.mean), w: 6.1 * cut(line(step.hypothesis)).length + 8, h: 16 }));
  const taken = steps.flatMap((step, at) => {
    const to = at < last ? x(steps[at + 1].at) : width - margin.right;
    return [{ x: x(step.at) - 6, y: y(step.mean) - 6, w: to - x(step.at) + 6, h: 12 }];
  });
  const boxes = place(wishes, taken, { x: margin.left + 4, y: margin.top + 6, w: width - margin.left - margin.right - 8, h: height - margin.top - margin.bottom - 12 }, lower);
  return s("g", null, boxes.map((box, at) => {
    if (!box) return null;
    const wish = wishes[at], edge = Math.min(Math.max(wish.x, box.x), box.x + box.w);
    return [s("line.leader", { x1: wish.x, y1: wish.y, x2: edge, y2: box.y + box.h / 2 }), s("text.note.halo", { x: box.x + 4, y: box.y + 12 }, cut(line(chosen[at].hypothesis)))];
  }));
}

function legend(steps) {
  const key = (drawn, word) => h("span", null, s("svg", { viewBox: "0 0 16 10" }, drawn), word);
  const sure = steps[0]?.sure;
  put(
    element.querySelector(".legend"),
    key(s("circle", { cx: 8, cy: 5, r: 2.6, fill: "var(--dot)" }), "experiment"),
    key(s("circle", { cx: 8, cy: 5, r: 2.2, fill: "var(--bad)" }), "failed"),
    steps.length ? key([s("rect", { x: 0, y: 1, width: 16, height: 8, fill: "var(--accent-band)" }), s("line", { x1: 0, x2: 16, y1: 5, y2: 5, stroke: "var(--accent)", "stroke-width": 2, "stroke-dasharray": sure ? null : "3 3" })], sure ? "champion, 95 %" : "best so far, unconfirmed, 95 %") : null,
    Object.keys(data.head.holdouts).length ? key(s("path", { d: "M8,1l4,4l-4,4l-4,-4z", fill: "none", stroke: "var(--c1)", "stroke-width": 1.4 }), "its holdout") : null,
  );
}

// ------------------------------------------------------------------------------------------------------------- mouse

function nearest(event) {
  if (!layout) return -1;
  const frame = element.getBoundingClientRect(), px = event.clientX - frame.left, py = event.clientY - frame.top;
  let found = -1, least = 14 * 14;
  for (let at = 0; at < layout.xs.length; at++) {
    const distance = (layout.xs[at] - px) ** 2 + (layout.ys[at] - py) ** 2;
    if (distance < least && data.variant[at] >= 0) [found, least] = [at, distance];
  }
  return found;
}

function pick(event) {
  const at = nearest(event);
  hush();
  if (at >= 0) state.set({ v: identity(points, data.variant[at]) });
}

const hover = hovering(() => element, nearest, (at) => data.variant[at], (at) => (Number.isFinite(data.score[at]) ? number(data.score[at]) : null));
