// Python in colour and differences in lines. Tokens become text nodes.

import { h, block } from "./dom.js";

const TOKEN = /(#.*$)|("""[\s\S]*?(?:"""|$)|'''[\s\S]*?(?:'''|$)|[rfbuRFBU]{0,2}"(?:\\.|[^"\\])*"?|[rfbuRFBU]{0,2}'(?:\\.|[^'\\])*'?)|\b(False|None|True|and|as|assert|async|await|break|class|continue|def|del|elif|else|except|finally|for|from|global|if|import|in|is|lambda|nonlocal|not|or|pass|raise|return|try|while|with|yield|match|case)\b|\b(0[xXbBoO][\da-fA-F_]+|\d[\d_]*\.?[\d_]*(?:[eE][+-]?\d+)?)\b|\b([A-Z][A-Z0-9_]{2,})\b/gm;
const KINDS = ["t-note", "t-text", "t-word", "t-number", "t-name"];
const LONGEST = 2000;

/** Return one line of Python as a list of text and coloured spans. */
export function coloured(text) {
  const words = block(text);
  if (words.length > LONGEST) return [words];
  const parts = [];
  let at = 0;
  for (const match of words.matchAll(TOKEN)) {
    if (match.index > at) parts.push(words.slice(at, match.index));
    const kind = KINDS[match.slice(1).findIndex((group) => group !== undefined)];
    parts.push(h(`span.${kind}`, null, match[0]));
    at = match.index + match[0].length;
  }
  parts.push(words.slice(at));
  return parts;
}

/** Draw a program with line numbers. */
export function source(text) {
  const lines = block(text).split("\n");
  return h("div.code.single", { tabindex: 0 }, lines.map((each, at) => h("div.row", null, h("span.n", null, at + 1), h("span", null, coloured(each)))));
}

/** Draw what /api gives as a difference: [kind, number before, number after, text]. */
export function difference(lines) {
  if (!lines.length) return h("div.faint", null, "The sources are the same.");
  return h(
    "div.code",
    { tabindex: 0 },
    lines.map(([kind, before, after, text]) => {
      if (kind === "@") return h("div.gap", null, "⋯");
      const tone = kind === "+" ? ".add" : kind === "-" ? ".cut" : "";
      return h(`div.row${tone}`, null, h("span.n", null, before ?? ""), h("span.n", null, after ?? ""), h("span.m", null, kind === "=" ? " " : kind === "-" ? "−" : "+"), h("span", null, coloured(text)));
    }),
  );
}
