// Small drawings that several views share: intervals, training curves, tags.

import { h, s, line, number, plusMinus, change, plural } from "./dom.js";
import { linear, ticks, words } from "./axes.js";
import { colour } from "./palette.js";

const NORMAL_95 = 1.96;

/** Draw a gain with its 95 % interval around zero; hollow where it may be luck. */
export function interval(gain, error, scale, lower = true) {
  const svg = s("svg.interval", { viewBox: "-38 0 76 14", "aria-hidden": "true" });
  svg.append(s("line.zero", { x1: 0, x2: 0, y1: 1, y2: 13 }));
  if (!Number.isFinite(gain)) return svg;
  const sign = lower ? -1 : 1;
  const at = (value) => Math.max(-38, Math.min(38, (sign * value * 36) / scale));
  const told = Number.isFinite(error) && Math.abs(gain) > NORMAL_95 * error;
  const ink = told ? (gain > 0 ? "var(--accent)" : "var(--bad)") : "var(--ink-3)";
  if (Number.isFinite(error)) {
    svg.append(s("line.range", { x1: at(gain - NORMAL_95 * error), x2: at(gain + NORMAL_95 * error), y1: 7, y2: 7, stroke: ink, "stroke-opacity": 0.45 }));
  }
  svg.append(s("circle", { cx: at(gain), cy: 7, r: 3, fill: told ? ink : "var(--bg)", stroke: ink, "stroke-width": 1.4 }));
  return svg;
}

/** Write a gain: coloured when it is one by more than its interval, with a question mark when it may be luck. */
export function gained(gain, error, lower = true, digits = 4) {
  if (!Number.isFinite(gain)) return h("span.faint", null, "–");
  const told = Number.isFinite(error) && Math.abs(gain) > NORMAL_95 * error;
  const tone = told ? (gain > 0 ? "span.good" : "span.bad") : "span.quiet";
  const luck = gain > 0 && !told ? "?" : "";
  return h(tone, { title: luck ? "within its interval: it may be luck" : null }, change(gain, lower, digits), luck, h("span.faint", null, plusMinus(error, digits)));
}

/** Write a score with its error and the trainings it rests on, or the status in its place. */
export function score(shown, digits = 4) {
  if (!Number.isFinite(shown.val_bpb) || shown.status !== "completed") return h("span.faint", null, line(shown.status).replaceAll("_", " "));
  return h("span", null, number(shown.val_bpb, digits), h("span.faint", null, plusMinus(shown.standard_error, digits), ` · ${shown.replicates}×`));
}

export const trainings = (value) => plural(value, "training");

/** Write what made a variant, with its colour. */
export function operator(word) {
  const dot = h("i");
  dot.style.background = colour("operator", word);
  return h("span.tag", null, dot, word);
}

/**
 * Draw training curves over each other: loss against progress, at equal progress.
 *
 * series: [{name, points: [{progress, loss}], colour, strong}].
 */
export function curves(series, width = 590, height = 200) {
  const drawn = series.filter((each) => each.points.length > 1);
  if (!drawn.length) return h("div.faint", null, "No training curve was reported.");
  const losses = drawn.flatMap((each) => each.points.filter((point) => point.progress >= 0.02).map((point) => point.loss)).filter(Number.isFinite).sort((a, b) => a - b);
  const low = losses[0], high = losses[Math.min(losses.length - 1, Math.floor(0.97 * losses.length))] ?? low + 1;
  const x = linear(0, 1, 44, width - 8), y = linear(low - 0.04 * (high - low), high, height - 24, 8);
  const marks = ticks(...y.domain, 4), labels = words(marks);
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Training loss against progress" });
  marks.forEach((value, at) => svg.append(s("line.gridline", { x1: 44, x2: width - 8, y1: y(value), y2: y(value) }), s("text", { x: 38, y: y(value) + 4, "text-anchor": "end" }, labels[at])));
  for (const share of [0, 0.25, 0.5, 0.75, 1]) svg.append(s("text", { x: x(share), y: height - 6, "text-anchor": share === 1 ? "end" : "middle" }, `${100 * share} %`));
  for (const each of [...drawn].sort((a, b) => (a.strong ? 1 : 0) - (b.strong ? 1 : 0))) {
    const path = each.points.filter((point) => Number.isFinite(point.loss)).map((point, at) => `${at ? "L" : "M"}${x(point.progress).toFixed(1)},${Math.max(0, y(point.loss)).toFixed(1)}`).join("");
    svg.append(s("path.curve", { d: path, stroke: each.colour, "stroke-opacity": each.strong ? 1 : 0.75, "stroke-width": each.strong ? 2 : 1.3 }));
  }
  const keys = h("div.keys", null, drawn.filter((each) => each.name).map((each) => {
    const dot = h("i");
    dot.style.background = each.colour;
    return h("span", null, dot, each.name);
  }));
  const frame = h("div.chart", null, svg);
  frame.style.height = "auto";
  return h("div", null, frame, keys);
}
