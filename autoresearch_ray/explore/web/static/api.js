// What the server answers: JSON, columns as typed arrays, and news.

const ARRAYS = { Float32Array, Float64Array, Int32Array, Int16Array, Int8Array, Uint8Array, Uint16Array };

export class Refused extends Error {}

async function fetched(path, signal) {
  let response;
  try {
    response = await fetch(path, { signal, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server does not answer: was explore ended?");
  }
  if (response.ok) return response;
  let words = `The server refused (${response.status}).`;
  try {
    words = (await response.json()).error || words;
  } catch { /* not JSON: the status says enough */ }
  throw new Refused(words);
}

/** Get plain values. */
export async function get(path, signal) {
  return (await fetched(path, signal)).json();
}

/** Get columns: {head, column: typed array, ...}. */
export async function columns(path, signal) {
  const buffer = await (await fetched(path, signal)).arrayBuffer();
  const size = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
  const found = { head: header.head };
  for (const { name, type, offset, length } of header.columns) {
    found[name] = new ARRAYS[type](buffer, 4 + size + offset, length);
  }
  return found;
}

/** Call back with {version, now, live} whenever the run has news, for as long as the page is open. */
export function follow(tell) {
  const source = new EventSource("/api/events");
  source.onmessage = (event) => tell(JSON.parse(event.data));
  return source;
}

const kept = { version: -1 };

/** Get columns once for as long as the run does not grow. */
export function columnsOnce(path, version) {
  if (kept.version !== version) {
    for (const name of Object.keys(kept)) delete kept[name];
    kept.version = version;
  }
  kept[path] ??= columns(path).catch((error) => {
    delete kept[path];
    throw error;
  });
  return kept[path];
}

/** Return the id of a position in what /api/points gave. */
export function identity(points, position) {
  const size = points.head.id_bytes;
  let text = "";
  for (let at = position * size; at < (position + 1) * size && points.id[at]; at++) text += String.fromCharCode(points.id[at]);
  return text;
}

/** Return the position of an id; -1 if there is none. */
export function position(points, wanted) {
  const size = points.head.id_bytes, bytes = new TextEncoder().encode(wanted);
  for (let at = 0; at < points.head.count; at++) {
    let same = 0;
    while (same < size && points.id[at * size + same] === (bytes[same] ?? 0)) same++;
    if (same === size) return at;
  }
  return -1;
}
