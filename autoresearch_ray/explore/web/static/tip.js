// What is under the pointer, in a few words.

import { get } from "./api.js";
import { $, h, put, line, short } from "./dom.js";
import { gained, score, operator } from "./marks.js";

let asked = null;

/** Hide what is shown, and show no more of what was asked for. */
export function hush() {
  asked?.abort();
  $("tip").hidden = true;
}

/** Return a listener that shows what is under the pointer, once it rests there. */
export function hovering(frame, find, variantOf, own = () => null) {
  let last = -1;
  return async (event) => {
    const tip = $("tip"), at = find(event), room = frame().getBoundingClientRect();
    frame().classList.toggle("point", at >= 0);
    if (at < 0 || event.pointerType === "touch") {
      hush();
      last = -1;
      return;
    }
    const px = Math.min(event.clientX + 16, innerWidth - 350), py = event.clientY + 150 > innerHeight ? event.clientY - 110 : event.clientY + 16;
    tip.style.transform = `translate(${Math.max(8, px)}px, ${Math.max(room.top, py)}px)`;
    if (at === last) return;
    last = at;
    asked?.abort();
    asked = new AbortController();
    try {
      const [birth] = await get(`/api/briefs?at=${variantOf(at)}`, asked.signal);
      if (last !== at || !birth) return;
      const single = own(at);
      put(tip, h("div.head", null, h("b.mono", null, short(birth.variant_id)), score(birth), gained(birth.gain, birth.gain_error, birth.lower_is_better)), h("div.head.faint", null, operator(birth.operator), single && birth.replicates > 1 ? `this training ${single}` : null), h("div.what", null, line(birth.hypothesis)), birth.reason ? h("div.what.bad", null, line(birth.reason)) : null);
      tip.hidden = false;
    } catch (error) {
      if (error.name !== "AbortError") tip.hidden = true;
    }
  };
}
