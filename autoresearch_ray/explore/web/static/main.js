// The frame: which view is shown, the open variant, keys, and news of a live run.

import { get, follow, Refused } from "./api.js";
import { $, h, s, put, line } from "./dom.js";
import * as state from "./state.js";
import { open as openPanel, close as closePanel, shown as panelShown, walk } from "./panel.js";
import * as progress from "./progress.js";
import * as tree from "./tree.js";
import * as compare from "./compare.js";
import * as ideas from "./ideas.js";
import * as now from "./now.js";

const views = { progress, tree, compare, ideas, now };
const names = { progress: "Progress", tree: "Tree", compare: "Compare", ideas: "Ideas", now: "Now" };
const main = $("view");

/** What all views share: the run as /api/run tells it, and the moment of the last news. */
export const shared = { run: null, now: 0 };

let current = null;
let theme = null;

const icons = {
  sun: ["M8 1v1.6M8 13.4V15M1 8h1.6M13.4 8H15M3 3l1.1 1.1M11.9 11.9 13 13M3 13l1.1-1.1M11.9 4.1 13 3", "M8 4.8a3.2 3.2 0 1 0 0 6.4 3.2 3.2 0 0 0 0-6.4z"],
  help: ["M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13z", "M6.2 6.2a1.9 1.9 0 1 1 2.5 1.8c-.5.2-.7.5-.7 1v.3M8 11.6v.1"],
};

export const icon = (name) => s("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, icons[name].map((d) => s("path", { d })));

function drawTop() {
  const { run } = shared;
  put(
    $("top"),
    h("a.brand", { href: "/", title: "Progress" }, h("img", { src: "/static/icon.svg", alt: "" }), h("span.run", null, line(run.run))),
    run.live ? h("span.pill.live", null, "live") : null,
    run.unverified ? h("span.pill.unsure", { title: "The programs reported these scores themselves" }, "unverified") : null,
    h("nav", null, state.VIEWS.map((view) => h("a", { href: state.address(view), "aria-current": view === state.view() ? "page" : null }, names[view]))),
    h(
      "div.tools",
      null,
      h("button.icon", { title: "Light or dark (t)", "aria-label": "Light or dark", onclick: state.toggleTheme }, icon("sun")),
      h("button.icon", { title: "Keys (?)", "aria-label": "Keys", onclick: help }, icon("help")),
    ),
  );
  document.title = `${line(run.run)} · ${names[state.view()]}`;
  put($("notice"), run.damage.map((sentence) => h("div", null, line(sentence))));
}

async function route() {
  const wanted = state.view();
  drawTop();
  const same = current === views[wanted] && theme === state.theme();
  followPanel(); // first: whoever clicked waits for this
  try {
    if (!same) {
      current?.leave?.();
      current = views[wanted];
      theme = state.theme();
      put(main);
      await current.enter(main, shared);
    } else {
      await current.update?.(shared);
    }
  } catch (error) {
    complain(error);
  }
}

function followPanel() {
  const identity = state.param("v");
  if (identity) openPanel(identity, shared);
  else closePanel();
}

function complain(error) {
  if (!(error instanceof Refused)) throw error;
  current = null;
  put(main, h("div.message", null, h("b", null, "Nothing to show"), h("span", null, line(error.message))));
}

function help() {
  const keys = [
    ["1 – 5", "the five views"], ["/", "search"], ["esc", "close what is open"], ["← →", "in a variant: its better parent, its best child"],
    ["↑ ↓", "in a variant: its siblings"], ["c", "open the champion"], ["f", "tree: show everything"], ["+ −", "tree: zoom"], ["t", "light or dark"], ["?", "this"],
  ];
  put($("help"), h("h2", null, "Keys"), h("dl", null, keys.map(([key, what]) => [h("dt", null, key.split(" ").map((word) => h("kbd", null, word))), h("dd", null, what)])));
  $("help").showModal();
}

addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select, textarea");
  if (event.key === "Escape") {
    if (typing) event.target.blur();
    else if (!$("help").open && panelShown()) state.set({ v: "" });
    return;
  }
  if (typing || event.metaKey || event.ctrlKey || event.altKey) return;
  const view = state.VIEWS[Number(event.key) - 1];
  if (view) state.go(state.address(view));
  else if (event.key === "/") document.querySelector("main input[type=search]")?.focus();
  else if (event.key === "?") help();
  else if (event.key === "t") state.toggleTheme();
  else if (event.key === "c" && shared.run.leader) state.set({ v: shared.run.leader.variant_id });
  else if (event.key.startsWith("Arrow") && panelShown()) walk(event.key);
  else if (!current?.key?.(event.key)) return;
  event.preventDefault();
});

$("help").addEventListener("click", (event) => event.target === $("help") && $("help").close());

let waiting = null;
let told = null; // the last news: a page that was hidden, or busy, catches up with it

const grew = () => told.version !== shared.run.version || told.live !== shared.run.live;

function news(latest) {
  told = latest;
  shared.now = told.now;
  if (waiting || document.hidden) return;
  waiting = setTimeout(async () => {
    waiting = null;
    const grown = grew();
    try {
      if (grown) shared.run = await get("/api/run");
      drawTop();
      await current?.update?.(shared, grown);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
    }
  }, grew() ? 400 : 100);
}

document.addEventListener("visibilitychange", () => told && news(told));

state.applyTheme();
state.onChange(() => {
  state.applyTheme();
  route();
});
try {
  shared.run = await get("/api/run");
  await route();
  follow(news);
} catch (error) {
  complain(error);
}
document.documentElement.dataset.ready = "yes";
