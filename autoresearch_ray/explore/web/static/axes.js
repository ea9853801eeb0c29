// Scales, ticks and where labels fit. Pure geometry, in CSS pixels.

/** Return a linear map of [low, high] to [from, to], with its inverse as `.back`. */
export function linear(low, high, from, to) {
  const slope = (to - from) / (high - low || 1);
  const map = (value) => from + (value - low) * slope;
  map.back = (pixel) => low + (pixel - from) / slope;
  map.domain = [low, high];
  return map;
}

/** Return round values within [low, high], about `wanted` of them. */
export function ticks(low, high, wanted = 6) {
  const span = high - low;
  if (!(span > 0) || !Number.isFinite(span)) return [];
  const raw = span / wanted, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= raw);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(k * step);
  return found;
}

/** Return ticks as words, with as many decimals as their step needs. */
export function words(values) {
  if (values.length < 2) return values.map(String);
  const step = Math.abs(values[1] - values[0]);
  let decimals = 0;
  while (decimals < 7 && Math.abs(step * 10 ** decimals - Math.round(step * 10 ** decimals)) > 1e-6) decimals++;
  return values.map((value) => (Math.abs(value) >= 10000 ? `${+(value / 1000).toFixed(1)}k` : value.toFixed(decimals)));
}

/** Return which scores to show: what is far worse than the start does not squash the rest. */
export function typical(scores, anchors, lower) {
  const sign = lower ? 1 : -1;
  const known = new Float64Array(scores.length);
  let many = 0;
  for (let at = 0; at < scores.length; at++) if (Number.isFinite(scores[at])) known[many++] = sign * scores[at];
  if (!many) return [0, 1];
  const costs = known.subarray(0, many).sort();
  const at = (share) => costs[Math.min(costs.length - 1, Math.floor(share * costs.length))];
  const best = Math.min(costs[0], ...anchors.map((value) => sign * value));
  const start = Math.max(...anchors.map((value) => sign * value), at(0.5));
  const span = Math.max(start - best, (at(0.75) - at(0.25)) * 2, 1e-9 + Math.abs(best) * 1e-4);
  const worst = Math.min(costs[costs.length - 1], Math.max(start + 0.35 * span, Math.min(at(0.9), start + span)));
  const low = best - 0.08 * span, high = worst + 0.04 * span;
  return lower ? [low, high] : [-high, -low];
}

const BELOW = [120, 150, 100, 60, 30], ABOVE = [240, 210, 300, 330, 200];

/** Place labels greedily so that none covers another or a taken box, below their points if there is room; boxes or nulls. */
export function place(wishes, taken, bounds, below = true) {
  const boxes = [...taken];
  const meets = (a, b) => a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
  const spots = (degrees) => [16, 28, 44, 64, 90, 120, 160, 210, 270].flatMap((distance) => degrees.map((angle) => [distance, angle]));
  const tried = [...spots(below ? BELOW : ABOVE), ...spots(below ? ABOVE : BELOW)];
  return wishes.map(({ x, y, w, h }) => {
    for (const [distance, degrees] of tried) {
      const angle = (degrees * Math.PI) / 180;
      const px = x + distance * Math.cos(angle), py = y + distance * Math.sin(angle);
      const box = { x: Math.cos(angle) < 0 ? px - w : px, y: py - h / 2, w, h };
      const inside = box.x >= bounds.x && box.y >= bounds.y && box.x + w <= bounds.x + bounds.w && box.y + h <= bounds.y + bounds.h;
      if (inside && !boxes.some((other) => meets({ x: box.x - 4, y: box.y - 2, w: w + 8, h: h + 4 }, other))) {
        boxes.push(box);
        return box;
      }
    }
    return null;
  });
}
