// Elements and words. Everything a variant or a model wrote becomes a text node here; nothing is ever parsed as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/** Make an element: h("div.name", {title: "x", onclick: f}, "text", child, [more]). */
export function h(selector, properties, ...children) {
  const [tag, ...classes] = selector.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  return fill(element, properties, children);
}

/** Make an SVG element, as `h` does. */
export function s(selector, properties, ...children) {
  const [tag, ...classes] = selector.split(".");
  const element = document.createElementNS(SVG, tag);
  if (classes.length) element.setAttribute("class", classes.join(" "));
  return fill(element, properties, children);
}

/** Replace what an element holds. */
export function put(element, ...children) {
  element.replaceChildren();
  return fill(element, null, children);
}

/** Wait until what was put on the page has reached the screen. */
export const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));

export const $ = (id) => document.getElementById(id);

/** Read a colour or length that base.css defines. */
export function css(name) {
  const theme = document.documentElement.dataset.theme;
  if (looks.theme !== theme) looks = { theme };
  looks[name] ??= getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return looks[name];
}

let looks = {};

// ------------------------------------------------------------------------------------------------------------ words

// What hides or reorders text is made visible; the browser would obey it even in a text node.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

/** Return text with what hides or reorders it replaced; lines stay lines. */
export const block = (text) => String(text ?? "").replaceAll("\r\n", "\n").replace(HIDDEN, "\ufffd");

/** Return text as one line. */
export const line = (text) => block(String(text ?? "").split(/\s+/).join(" ").trim());

export const short = (identity) => String(identity ?? "").slice(0, 7);

export const number = (value, digits = 4) => (Number.isFinite(value) ? value.toFixed(digits) : "–");

export const count = (value) => Number(value ?? 0).toLocaleString("en-US");

export const plural = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;

/** Return a gain as the change of the score: where lower is better, 0.01 is shown as −0.0100. */
export function change(gain, lower = true, digits = 4) {
  if (!Number.isFinite(gain)) return "–";
  const value = lower ? -gain : gain;
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;
}

export const plusMinus = (error, digits = 4) => (Number.isFinite(error) ? ` ±${error.toFixed(digits)}` : "");

/** Return a share in [0, 1] as "62 %". */
export const percent = (value, digits = 0) => (Number.isFinite(value) ? `${(100 * value).toFixed(digits)} %` : "–");

export const status = (word) => String(word ?? "").replaceAll("_", " ");

export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 100) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")} min`;
  return `${Math.floor(seconds / 3600)}:${String(Math.floor((seconds % 3600) / 60)).padStart(2, "0")} h`;
}

export function quantity(value) {
  if (!Number.isFinite(value)) return "–";
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) if (value >= size) return `${(value / size).toPrecision(3)} ${unit}`;
  return String(value);
}

export const bytes = (value) => (Number.isFinite(value) ? `${(value / 2 ** 30).toFixed(2)} GiB` : "–");

export const dollars = (value) => (Number.isFinite(value) ? `$${value < 1 && value > 0 ? value.toFixed(3) : value.toFixed(2)}` : "–");
