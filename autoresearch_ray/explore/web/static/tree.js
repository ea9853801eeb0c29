// The phylogeny: every birth a dot, edges to one or two parents, the way to the champion in front.

import { columnsOnce, identity, position } from "./api.js";
import { h, s, put, css, count, status, line, number } from "./dom.js";
import * as state from "./state.js";
import * as filters from "./filters.js";
import { linear, ticks, words, typical } from "./axes.js";
import { paint, fit, rgb } from "./dots.js";
import { colour } from "./palette.js";
import { hovering, hush } from "./tip.js";

const MARGIN = { left: 64, right: 20, top: 44, bottom: 36 };
const ON_PATH = 1, CHAMPION = 2, SEED = 16;
const EDGES_A_FRAME = 1500;
const CURVED = 3000;

let shared = null, points = null, element = null, canvases = null, under = null, over = null, chosen = null, bar = null;
let world = null, frame = null, passed = null, screen = null, known = null, edging = 0, drawing = 0, dragged = false;
const fingers = new Map();
const resized = new ResizeObserver(() => request());

export async function enter(main, given) {
  shared = given;
  frame = known = screen = null;
  canvases = { edges: h("canvas"), dots: h("canvas", { role: "img", "aria-label": "The tree of all births" }) };
  over = s("svg.over");
  chosen = s("g.chosen");
  bar = h("div.bar");
  under = s("svg.over");
  element = h("div.plot.grab", null, under, canvases.edges, canvases.dots, over, h("div.legend"), h("div.shown"), h("div.tree-tools", null, tool("+", "Zoom in (+)", () => zoom(1.6)), tool("−", "Zoom out (−)", () => zoom(1 / 1.6)), tool("⤢", "Show everything (f)", whole)));
  const hover = hovering(() => element, nearest, (at) => at);
  element.addEventListener("pointermove", (event) => (fingers.size ? drag(event) : hover(event)));
  element.addEventListener("pointerdown", press);
  element.addEventListener("pointerup", release);
  element.addEventListener("pointercancel", release);
  element.addEventListener("pointerleave", hush);
  element.addEventListener("wheel", wheel, { passive: false });
  put(main, h("div.fill", null, bar, element));
  await update(given);
  resized.observe(element);
}

const tool = (word, title, act) => h("button.icon", { title, "aria-label": title, onclick: act }, word);

export function leave() {
  resized.disconnect();
  cancelAnimationFrame(edging);
  hush();
}

export async function update(given) {
  shared = given;
  points = await columnsOnce("/api/points", shared.run.version);
  const by = choice("colour", ["operator", "island", "model", "status"]), along = choice("x", ["birth", "time", "generation"]);
  const wanted = filters.query(), version = shared.run.version, drawn = [version, wanted, along, by].join();
  if (screen && known?.drawn === drawn) return highlight(); // only another variant was opened: the dots stay
  if (!known || known.version !== version || known.wanted !== wanted) passed = await filters.mask(points, version);
  filters.draw(bar, points, [segments("x", ["birth", "time", "generation"], along), segments("colour", ["operator", "island", "model", "status"], by)]);
  if (!known || known.version !== version || known.along !== along || known.by !== by) world = place(along, by);
  known = { version, wanted, along, by, drawn };
  if (!frame || frame.along !== along) frame = { along, ...world.extent };
  request();
}

const choice = (name, values) => (values.includes(state.param(name)) ? state.param(name) : values[0]);

const segments = (name, values, chosen) => h("div.segments", { role: "group", "aria-label": name === "x" ? "Horizontal axis" : "Colour" }, values.map((value) => h("button", { "aria-pressed": String(value === chosen), onclick: () => state.set({ [name]: value === values[0] ? "" : value }, true) }, value === "status" ? "Outcome" : value.replace(/^./, (letter) => letter.toUpperCase()))));

/** A number in [0, 1) that is a birth's own, so that dots of one generation stand beside each other. */
const jitter = (at) => ((Math.imul(at + 1, 2654435761) >>> 8) & 0xffff) / 0x10000;

/** Return where every birth stands, in the units of the axes; what failed stands on a rail beyond the worst score. */
function place(along, by) {
  const total = points.head.count, lower = shared.run.lower_is_better;
  const xs = new Float64Array(total), ys = new Float64Array(total);
  const anchors = [shared.run.seed?.val_bpb, shared.run.leader?.val_bpb].filter(Number.isFinite);
  const [low, high] = typical(points.score, anchors, lower), span = high - low;
  const beyond = (share) => (lower ? high + share * span : low - share * span);
  let most = 0;
  for (let at = 0; at < total; at++) {
    const score = points.score[at];
    xs[at] = along === "time" ? points.hours[at] : along === "generation" ? points.generation[at] + 0.7 * (jitter(at) - 0.5) : points.number[at];
    if (xs[at] > most) most = xs[at];
    if (!Number.isFinite(score)) ys[at] = beyond(0.075 + 0.035 * jitter(at));
    else ys[at] = (lower ? score > high : score < low) ? beyond(0.02 + 0.025 * jitter(at)) : score;
  }
  const colours = new Uint8Array(3 * total), radii = new Float32Array(total), listed = legend(by);
  const base = total > 20000 ? 1.5 : total > 4000 ? 2 : total > 600 ? 2.8 : 4;
  for (let at = 0; at < total; at++) {
    const ink = listed.colourOf(at);
    colours[3 * at] = ink[0];
    colours[3 * at + 1] = ink[1];
    colours[3 * at + 2] = ink[2];
    radii[at] = base * (1 + 0.45 * Math.log2(Math.max(1, Math.min(points.trainings[at], 16))) * 0.5);
  }
  const outer = beyond(0.13), inner = lower ? low : high;
  return { xs, ys, colours, radii, range: [low, high], extent: { x0: -0.01 * most - 0.5, x1: 1.01 * most + 0.5, y0: Math.min(outer, inner), y1: Math.max(outer, inner) } };
}

function legend(by) {
  const lists = { operator: points.head.operators, model: points.head.models, status: points.head.statuses, island: [...new Set(points.island)].sort((a, b) => a - b) };
  const list = lists[by], inks = list.map((word, at) => colour(by, word, at)), bytes = inks.map(rgb);
  const islandAt = new Map(lists.island.map((island, at) => [island, at]));
  const colourOf = (at) => bytes[by === "island" ? islandAt.get(points.island[at]) : Math.min(points[by][at], bytes.length - 1)];
  const word = (value) => (by === "island" ? `island ${value}` : by === "model" && !value ? "no model" : status(line(value)));
  put(
    element.querySelector(".legend"),
    list.slice(0, 10).map((value, at) => h("span", null, s("svg", { viewBox: "0 0 16 10" }, s("circle", { cx: 10, cy: 5, r: 3.4, fill: inks[at] })), word(value))),
    h("span", null, s("svg", { viewBox: "0 0 16 10" }, s("path", { d: "M0,8L16,2", stroke: "var(--accent)", "stroke-width": 2 })), shared.run.confirmed ? "way to the champion" : "way to the best (unconfirmed)"),
  );
  return { colourOf };
}

// ---------------------------------------------------------------------------------------------------------- drawing

function request() {
  if (!drawing) drawing = requestAnimationFrame(() => { drawing = 0; draw(); });
}

function draw() {
  if (!world || !element.isConnected) return;
  const { width, height } = element.getBoundingClientRect();
  if (width < 40 || height < 40) return;
  const narrow = width < 600, margin = { ...MARGIN, left: narrow ? 52 : MARGIN.left };
  const scale = fit(canvases.dots, width, height);
  fit(canvases.edges, width, height);
  const lower = shared.run.lower_is_better;
  const x = linear(frame.x0, frame.x1, margin.left, width - margin.right), y = linear(frame.y0, frame.y1, height - margin.bottom, margin.top);
  const total = points.head.count;
  const xs = new Float32Array(total), ys = new Float32Array(total), alphas = new Float32Array(total), order = new Int32Array(total);
  const strong = total > 20000 ? 0.6 : total > 2000 ? 0.75 : 0.9, any = filters.active();
  let inside = 0, back = 0, front = total;
  for (let at = 0; at < total; at++) {
    xs[at] = x(world.xs[at]);
    ys[at] = y(world.ys[at]);
    alphas[at] = passed[at] ? strong : any ? 0.06 : strong;
    if (passed[at]) inside++;
    if (passed[at]) order[--front] = at;
    else order[back++] = at;
  }
  order.subarray(front).reverse();
  screen = { xs, ys, x, y, width, height, margin, scale };
  paint(canvases.dots, scale, { xs, ys, radii: world.radii, colours: world.colours, alphas, order });
  const [rules, names] = axes(lower);
  put(under, rules);
  highlight();
  put(over, names, chosen, way());
  element.dataset.painted = performance.now();
  element.querySelector(".shown").textContent = any ? `${count(inside)} of ${count(total)} births` : `${count(total)} births`;
  edges();
}

/** Draw edges piece by piece behind the dots, so that moving stays fluid; begin again whenever the frame moves. */
function edges() {
  cancelAnimationFrame(edging);
  const context = canvases.edges.getContext("2d"), { xs, ys, scale, width, height } = screen, total = points.head.count;
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  let drawn = 0;
  for (let at = 0; at < total; at++) if (passed[at] && points.first[at] >= 0) drawn++;
  const ink = css("--ink-3"), second = css("--c1"), curved = drawn < CURVED;
  context.lineWidth = curved ? 0.9 : 0.6;
  const alpha = Math.max(0.05, Math.min(0.55, 250 / Math.sqrt(drawn + 1) / 20));
  let at = 0;
  const seen = (from, to) => Math.max(xs[from], xs[to]) > 0 && Math.min(xs[from], xs[to]) < width && Math.max(ys[from], ys[to]) > 0 && Math.min(ys[from], ys[to]) < height;
  const step = () => {
    for (const [column, colour] of [["first", ink], ["second", second]]) {
      context.beginPath();
      for (let k = at; k < Math.min(at + EDGES_A_FRAME, total); k++) {
        const from = points[column][k];
        if (!passed[k] || from < 0 || !seen(from, k) || (!curved && !Number.isFinite(points.score[k]))) continue;
        context.moveTo(xs[from], ys[from]);
        if (curved) context.bezierCurveTo((xs[from] + xs[k]) / 2, ys[from], (xs[from] + xs[k]) / 2, ys[k], xs[k], ys[k]);
        else context.lineTo(xs[k], ys[k]);
      }
      context.strokeStyle = colour;
      context.globalAlpha = column === "second" ? Math.min(1, alpha * 1.3) : alpha;
      context.stroke();
    }
    at += EDGES_A_FRAME;
    if (at < total) edging = requestAnimationFrame(step);
    else element.dataset.edges = "drawn";
  };
  delete element.dataset.edges;
  edging = requestAnimationFrame(step);
}

function axes(lower) {
  const { x, y, width, height, margin } = screen, [low, high] = world.range, rules = [], parts = [];
  const rows = ticks(Math.max(low, y.domain[0]), Math.min(high, y.domain[1]), Math.max(3, height / 90)), columns = ticks(...x.domain, Math.max(3, width / 130)).filter((value) => value >= 0);
  words(rows).forEach((word, at) => {
    rules.push(s("line.gridline", { x1: margin.left, x2: width - margin.right, y1: y(rows[at]), y2: y(rows[at]) }));
    parts.push(s("text.halo", { x: margin.left - 8, y: y(rows[at]) + 4, "text-anchor": "end" }, word));
  });
  words(columns).forEach((word, at) => parts.push(s("text.halo", { x: x(columns[at]), y: height - margin.bottom + 20, "text-anchor": "middle" }, word)));
  const rail = (share, word) => {
    const at = y(lower ? high + share * (high - low) : low - share * (high - low));
    if (at > 8 && at < height) parts.push(s("text.halo", { x: margin.left - 8, y: at + 4, "text-anchor": "end" }, word));
  };
  rail(0.033, "worse");
  rail(0.095, "failed");
  const name = { birth: "birth", time: "hours", generation: "generation" }[frame.along];
  parts.push(s("text.halo", { x: width - margin.right, y: height - 3, "text-anchor": "end" }, name));
  return [rules, parts];
}

const link = (from, to) => {
  const { xs, ys } = screen, middle = (xs[from] + xs[to]) / 2;
  return `M${xs[from].toFixed(1)},${ys[from].toFixed(1)}C${middle.toFixed(1)},${ys[from].toFixed(1)} ${middle.toFixed(1)},${ys[to].toFixed(1)} ${xs[to].toFixed(1)},${ys[to].toFixed(1)}`;
};

/** Draw the way to the champion in front, each step with its interval. */
function way() {
  const { xs, ys, y } = screen, onWay = [], parts = [];
  for (let at = 0; at < points.head.count; at++) if (points.flags[at] & ON_PATH) onWay.push(at);
  const among = new Set(onWay), crowded = onWay.length > 150;
  let path = "";
  for (const at of onWay) {
    const from = [points.first[at], points.second[at]].find((parent) => among.has(parent));
    if (from >= 0) path += link(from, at);
  }
  const dash = shared.run.confirmed ? null : "4 4";
  parts.push(s("path", { d: path, fill: "none", stroke: "var(--bg)", "stroke-width": 4, "stroke-opacity": 0.7 }), s("path", { d: path, fill: "none", stroke: "var(--accent)", "stroke-width": 2, "stroke-dasharray": dash }));
  let bars = "";
  for (const at of onWay) {
    const half = 1.96 * points.error[at], end = points.flags[at] & (CHAMPION | SEED);
    if (Number.isFinite(half) && Number.isFinite(points.score[at])) bars += `M${xs[at].toFixed(1)},${y(points.score[at] - half).toFixed(1)}V${y(points.score[at] + half).toFixed(1)}`;
    if (!crowded || end) parts.push(s("circle", { cx: xs[at], cy: ys[at], r: end ? 5.5 : 3.8, fill: points.flags[at] & SEED ? "var(--ink)" : "var(--accent)", stroke: "var(--bg)", "stroke-width": 1.5 }));
  }
  parts.splice(1, 0, s("path", { d: bars, stroke: "var(--accent)", "stroke-opacity": crowded ? 0.25 : 0.55, "stroke-width": 1.4 }));
  const leader = onWay.find((at) => identity(points, at) === shared.run.leader?.variant_id) ?? -1;
  if (leader >= 0 && !shared.run.confirmed) parts.push(s("circle", { cx: xs[leader], cy: ys[leader], r: 5.5, fill: "var(--bg)", stroke: "var(--accent)", "stroke-width": 2 }));
  return s("g", null, parts);
}

/** Draw the open variant with its ancestors and its children, in front of the dots. */
function highlight() {
  put(chosen, selected());
}

function selected() {
  const at = state.param("v") ? position(points, shared.run.leader && ["best", "champion"].includes(state.param("v")) ? shared.run.leader.variant_id : state.param("v")) : -1;
  if (at < 0) return null;
  const { xs, ys, y } = screen;
  let back = "", onward = "", kin = 0;
  const seen = new Set([at]), waiting = [at];
  while (waiting.length && kin++ < 4000) {
    const child = waiting.pop();
    for (const parent of [points.first[child], points.second[child]]) {
      if (parent < 0) continue;
      back += link(parent, child);
      if (!seen.has(parent)) {
        seen.add(parent);
        waiting.push(parent);
      }
    }
  }
  for (let child = 0; child < points.head.count; child++) if (points.first[child] === at || points.second[child] === at) onward += link(at, child);
  const half = 1.96 * points.error[at];
  return [s("path", { d: back, fill: "none", stroke: "var(--ink)", "stroke-width": 1.3, "stroke-opacity": seen.size > 300 ? 0.35 : 0.7 }), s("path", { d: onward, fill: "none", stroke: "var(--focus)", "stroke-width": 1.1, "stroke-opacity": 0.4 }), Number.isFinite(half) && Number.isFinite(points.score[at]) ? s("line", { x1: xs[at], x2: xs[at], y1: y(points.score[at] - half), y2: y(points.score[at] + half), stroke: "var(--ink)", "stroke-width": 1.6 }) : null, s("circle", { cx: xs[at], cy: ys[at], r: 8, fill: "none", stroke: "var(--ink)", "stroke-width": 2 }), Number.isFinite(points.score[at]) ? s("text.note.halo", { x: xs[at] + 13, y: ys[at] + 4 }, number(points.score[at])) : null];
}

// ----------------------------------------------------------------------------------------------------- mouse and keys

function nearest(event) {
  if (!screen) return -1;
  const box = element.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
  let found = -1, least = (event.pointerType === "touch" ? 22 : 12) ** 2;
  for (let at = 0; at < screen.xs.length; at++) {
    if (!passed[at]) continue;
    const distance = (screen.xs[at] - px) ** 2 + (screen.ys[at] - py) ** 2 - (points.flags[at] & ON_PATH ? 16 : 0);
    if (distance < least) [found, least] = [at, distance];
  }
  return found;
}

function press(event) {
  if (event.button || event.target.closest("button")) return;
  element.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  dragged = false;
}

function drag(event) {
  const held = fingers.get(event.pointerId);
  if (!held) return;
  const dx = event.clientX - held.x, dy = event.clientY - held.y;
  if (!dragged && Math.hypot(dx, dy) < 4) return;
  dragged = true;
  hush();
  element.classList.add("grabbing");
  if (fingers.size === 2) {
    const other = [...fingers].find(([name]) => name !== event.pointerId)[1];
    const before = Math.hypot(held.x - other.x, held.y - other.y), after = Math.hypot(event.clientX - other.x, event.clientY - other.y);
    if (before > 10) zoom(after / before, (other.x + event.clientX) / 2, (other.y + event.clientY) / 2);
  } else {
    const { x, y } = screen;
    const wide = x.back(0) - x.back(dx), tall = y.back(0) - y.back(dy);
    frame = { ...frame, x0: frame.x0 + wide, x1: frame.x1 + wide, y0: frame.y0 + tall, y1: frame.y1 + tall };
  }
  fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  request();
}

function release(event) {
  const held = fingers.delete(event.pointerId);
  element.classList.remove("grabbing");
  if (!held || dragged || event.type === "pointercancel") return;
  const at = nearest(event);
  hush();
  if (at >= 0) state.set({ v: identity(points, at) });
}

function wheel(event) {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.clientX, event.clientY, event.shiftKey);
}

/** Zoom around a point of the window; around the middle without one. */
function zoom(factor, clientX, clientY, onlyAcross = false) {
  if (!screen) return;
  const box = element.getBoundingClientRect();
  const px = clientX === undefined || typeof clientX !== "number" ? screen.width / 2 : clientX - box.left, py = typeof clientY !== "number" ? screen.height / 2 : clientY - box.top;
  const cx = screen.x.back(px), cy = screen.y.back(py), whole = world.extent;
  const wide = (frame.x1 - frame.x0) / factor / (whole.x1 - whole.x0);
  if (wide > 4 || wide < 1e-5) return;
  const about = (value, middle) => middle + (value - middle) / factor;
  frame = { ...frame, x0: about(frame.x0, cx), x1: about(frame.x1, cx), ...(onlyAcross ? {} : { y0: about(frame.y0, cy), y1: about(frame.y1, cy) }) };
  request();
}

function whole() {
  frame = { along: frame.along, ...world.extent };
  request();
}

export function key(pressed) {
  if (pressed === "f") whole();
  else if (pressed === "+" || pressed === "=") zoom(1.4);
  else if (pressed === "-") zoom(1 / 1.4);
  else return false;
  return true;
}
