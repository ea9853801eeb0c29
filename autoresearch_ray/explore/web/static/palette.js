// Which colour stands for what: operators and statuses always the same, islands and models in their order.

import { css } from "./dom.js";

const OPERATORS = { parameters: "--c0", crossover: "--c1", mutation: "--c2", person: "--c3", repair: "--c6", seed: "--ink-2", imported: "--c4", carried: "--c5" };
const STATUSES = { completed: "--c0", crashed: "--bad", timed_out: "--c6", rejected: "--warn", lost: "--c4", operator_failed: "--c2" };
const CYCLE = ["--c0", "--c2", "--c1", "--c3", "--c4", "--c6", "--c5", "--c7"];

/** Return a colour by what is coloured (`operator`, `status`, `island`, `model`), the word, and its place among others. */
export function colour(by, word, place = 0) {
  const known = by === "operator" ? OPERATORS[word] : by === "status" ? STATUSES[word] : null;
  if (known) return css(known);
  if (by === "model" && !word) return css("--dot");
  return css(CYCLE[place % CYCLE.length]);
}
