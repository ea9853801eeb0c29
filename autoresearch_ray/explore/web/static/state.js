// The address is the state: the view is the path; filters, colours and the open variant are the query. Every state is a link.

const listeners = new Set();

export const VIEWS = ["progress", "tree", "compare", "ideas", "now"];

export function view() {
  const first = location.pathname.split("/")[1];
  return VIEWS.includes(first) ? first : "progress";
}

export function param(name) {
  if (name === "v") {
    const [, page, identity] = location.pathname.split("/");
    if (page === "variant" && identity) return decodeURIComponent(identity);
  }
  return new URLSearchParams(location.search).get(name) ?? "";
}

/** Return the address of a view with some parameters changed; an empty value removes one. */
export function address(to, changes = {}, keep = true) {
  const query = new URLSearchParams(keep ? location.search : "");
  for (const [name, value] of Object.entries(changes)) {
    if (value === "" || value === null || value === undefined) query.delete(name);
    else query.set(name, value);
  }
  const words = query.toString();
  return `/${to}${words ? `?${words}` : ""}`;
}

/** Go to an address; `replace` leaves no step to go back to. */
export function go(to, replace = false) {
  if (to === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"](null, "", to);
  tell();
}

/** Change parameters of this view. */
export function set(changes, replace = false) {
  const keeps = location.pathname.startsWith("/variant/") && !("v" in changes) ? { v: param("v") } : {};
  go(address(view(), { ...keeps, ...changes }), replace);
}

export const onChange = (listener) => listeners.add(listener);

function tell() {
  for (const listener of listeners) listener();
}

addEventListener("popstate", tell);

/** Let links within the page change the address without loading it again. */
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='/']");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  go(link.getAttribute("href"));
});

// ------------------------------------------------------------------------------------------------------------ theme

export function theme() {
  const chosen = localStorage.getItem("theme");
  return chosen || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

export function applyTheme(next = theme()) {
  document.documentElement.dataset.theme = next;
}

export function toggleTheme() {
  const next = theme() === "dark" ? "light" : "dark";
  localStorage.setItem("theme", next);
  applyTheme(next);
  tell();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  applyTheme();
  tell();
});
