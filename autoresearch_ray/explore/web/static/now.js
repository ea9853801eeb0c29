// What a live run does: each slot, what was spent, what is left.

import { get, Refused } from "./api.js";
import { h, put, line, short, number, plusMinus, count, dollars, duration, percent, status } from "./dom.js";
import * as state from "./state.js";
import { gained, operator } from "./marks.js";

const PHASES = { queued: "waiting", starting: "starting", training: "training", scoring: "scoring" };
const SHOWN_SLOTS = 200;

let shared = null, page = null;

export async function enter(main, given) {
  page = h("div.page");
  put(main, page);
  await update(given);
}

export async function update(given) {
  shared = given;
  const past = happened(await get("/api/happenings"));
  try {
    draw(await get("/api/now"), past);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    put(page, h("section.card", null, h("h2", null, "Nothing is known of this run's slots"), h("p.quiet", null, line(error.message))), past);
  }
}

function draw(now, past) {
  put(page, h("section.card", null, h("header", null, h("h2", null, state_word(now)), h("span.faint", null, `${duration(now.now - now.started_at)}${now.live ? " so far" : " in all"}${now.live && now.ends_at ? `, about ${duration(Math.max(0, now.ends_at - now.now))} left` : ""}`)), h("div.grid", null, budget("experiments", now.experiments, now.max_experiments, count), budget("hours", (now.now - now.started_at) / 3600, now.max_hours, (value) => number(value, 2)), now.usd || now.max_usd ? budget("language models", now.usd, now.max_usd, dollars) : null)), best(now), slots(now), past);
}

const state_word = (now) => ({ running: "Running", draining: "Finishing what trains", finished: "Finished", stopped: "Stopped", failed: "Failed", killed: "Ended without a word" })[now.state] ?? line(now.state);

function budget(name, spent, most, word) {
  const bar = h("i");
  bar.style.width = most ? `${Math.min(100, (100 * spent) / most)}%` : "0";
  return h("div.budget", null, h("div.row", null, h("b", null, name), h("span", null, word(spent), h("span.faint", null, most ? ` of ${word(most)}` : " · no limit"))), most ? h("div.meter", null, bar) : null, most ? h("div.faint", null, `${word(Math.max(0, most - spent))} left`) : null);
}

function best(now) {
  if (!now.best) return null;
  const shown = now.champion ?? now.best;
  const gain = now.seed ? (now.lower_is_better ? 1 : -1) * (now.seed.mean - shown.mean) : NaN;
  const entry = (name, score) => score && h("div.figure", null, h("div.label", null, name), h("div.value", null, h("a", { href: state.address("now", { v: score.variant_id }) }, number(score.mean), h("small", null, plusMinus(score.error), ` · ${score.count}×`))));
  const ends = Object.entries(now.ends).map(([word, many]) => `${count(many)} ${status(word)}`).join(", ");
  return h("section.card", null, h("div.score", null, entry("champion", now.champion), entry(now.champion ? "best guess" : "best so far", now.best), entry("seed", now.seed), h("div.figure", null, h("div.label", null, `${now.champion ? "champion" : "best"} against the seed`), h("div.value", null, gained(gain, Math.hypot(shown.error ?? NaN, now.seed?.error ?? NaN), now.lower_is_better))), h("div.figure", null, h("div.label", null, "births"), h("div.value", null, count(now.births), h("small", null, ends ? ` · ${ends}` : "")))), now.challenging && now.live ? h("p.quiet", null, h("a.link.mono", { href: state.address("now", { v: now.challenging }) }, short(now.challenging)), " is trained on fresh seeds, beside who it challenges") : null, h("p.quiet", null, line(shown.hypothesis)));
}

function slots(now) {
  const busy = now.activities;
  const head = h("header", null, h("h2", null, "Slots"), h("span.faint", null, busy.length ? `${busy.filter((each) => each.phase !== "queued").length} of ${now.slots} busy` : `none of ${now.slots} busy`));
  if (!busy.length) return h("section.card", null, head, h("p.quiet", null, now.live ? "Nothing is being trained at this moment." : "The run is not live: nothing is being trained."));
  const rows = busy.slice(0, SHOWN_SLOTS).map((each) => {
    const bar = h("i");
    bar.style.width = `${each.phase === "training" ? 100 * each.progress : each.phase === "scoring" ? 100 : 0}%`;
    return h("div.slot", null, h("span.cut", null, line(each.place) || h("span.faint", null, "no slot yet")), h("span.quiet", null, PHASES[each.phase] ?? line(each.phase)), h("a.cut.what", { href: state.address("now", { v: each.variant_id }), title: line(each.hypothesis) }, h("b.mono", null, short(each.variant_id)), " ", operator(each.operator), " ", h("span.quiet", null, line(each.hypothesis))), h("span", null, h("div.meter", { title: percent(each.progress) }, bar)));
  });
  return h("section.card", null, head, h("div.slots", null, rows), busy.length > SHOWN_SLOTS ? h("div.more", null, `and ${busy.length - SHOWN_SLOTS} more`) : null);
}

/** Draw what happened last: verdicts, migrations, notes, resizes. */
function happened(events) {
  if (!events.length) return null;
  const word = (value) => {
    if (Array.isArray(value)) return value.map(word).join(" ");
    if (typeof value === "number") return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
    if (typeof value === "string" && /^[0-9a-f]{12}$/.test(value)) return short(value);
    return typeof value === "object" && value !== null ? JSON.stringify(value) : String(value);
  };
  const row = (event) => {
    const details = Object.entries(event.details).map(([name, value]) => `${name.replaceAll("_", " ")} ${line(word(value))}`).join(" · ");
    const about = event.variant_id ? [h("a.link.mono", { href: state.address("now", { v: event.variant_id }) }, short(event.variant_id)), " "] : null;
    return h("div.event", null, h("span.faint", null, event.recorded_at.slice(5, 16).replace("T", " ")), h("b", null, status(line(event.kind))), h("span.quiet.long", null, about, details));
  };
  return h("section.card", null, h("header", null, h("h2", null, "What happened"), h("span.faint", null, "UTC, the newest first")), events.map(row));
}
