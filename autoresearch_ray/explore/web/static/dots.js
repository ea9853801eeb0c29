// Fifty thousand dots in a few milliseconds: anti-aliased discs blended straight into the canvas's pixels.

const discs = new Map();

/** Return a disc's coverage, pixel by pixel: {size, offset, cover} for a radius in device pixels. */
function disc(radius) {
  const key = Math.round(radius * 4);
  let found = discs.get(key);
  if (!found) {
    const r = Math.max(key / 4, 0.5);
    const half = Math.ceil(r);
    const size = 2 * half + 1;
    const cover = new Float32Array(size * size);
    for (let y = -half; y <= half; y++) {
      for (let x = -half; x <= half; x++) {
        cover[(y + half) * size + x + half] = Math.min(1, Math.max(0, r + 0.5 - Math.hypot(x, y)));
      }
    }
    found = { size, half, cover };
    discs.set(key, found);
  }
  return found;
}

/** Return "#rrggbb" or "rgb(r, g, b)" as [r, g, b]. */
export function rgb(colour) {
  if (colour.startsWith("#")) return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return colour.match(/[\d.]+/g).slice(0, 3).map(Number);
}

/**
 * Paint dots on a canvas that has been sized to the screen.
 *
 * xs, ys: CSS pixels; NaN leaves a dot out. radii: CSS pixels. colours: bytes, three a dot. alphas: in [0, 1].
 * order: positions in the order in which they are painted.
 */
export function paint(canvas, scale, { xs, ys, radii, colours, alphas, order }) {
  const context = canvas.getContext("2d");
  const { width, height } = canvas;
  const image = context.createImageData(width, height);
  const pixels = image.data;
  for (let k = 0; k < order.length; k++) {
    const at = order[k];
    const x = xs[at] * scale, y = ys[at] * scale;
    if (!(x > -20 && y > -20 && x < width + 20 && y < height + 20)) continue;
    const { size, half, cover } = disc(radii[at] * scale);
    const left = Math.round(x) - half, top = Math.round(y) - half;
    const red = colours[3 * at], green = colours[3 * at + 1], blue = colours[3 * at + 2], alpha = alphas[at];
    for (let row = 0; row < size; row++) {
      const py = top + row;
      if (py < 0 || py >= height) continue;
      for (let column = 0; column < size; column++) {
        const a = cover[row * size + column] * alpha;
        const px = left + column;
        if (a === 0 || px < 0 || px >= width) continue;
        const to = 4 * (py * width + px);
        const before = pixels[to + 3] / 255;
        const after = a + before * (1 - a);
        const share = a / after;
        pixels[to] += (red - pixels[to]) * share;
        pixels[to + 1] += (green - pixels[to + 1]) * share;
        pixels[to + 2] += (blue - pixels[to + 2]) * share;
        pixels[to + 3] = 255 * after;
      }
    }
  }
  context.putImageData(image, 0, 0);
}

/** Give a canvas as many pixels as the screen has; return the pixels a CSS pixel has. */
export function fit(canvas, width, height) {
  const scale = Math.min(window.devicePixelRatio || 1, 2);
  const w = Math.max(1, Math.round(width * scale)), t = Math.max(1, Math.round(height * scale));
  if (canvas.width !== w || canvas.height !== t) {
    canvas.width = w;
    canvas.height = t;
  }
  return scale;
}
