// A line chart of a few series over time, as SVG: a few hundred points, so no library is needed for it.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { clock, seconds } from "./text.js";

const HEIGHT = 160, LEFT = 56, BOTTOM = 22, TOP = 8, LABEL_PX = 70;

/** A round number not below the value: 1, 2, 2.5 or 5 by a power of ten. */
function round(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((by) => by * unit).find((by) => by >= value);
}

function useWidth(box) {
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const watcher = new ResizeObserver(() => box.current && setWidth(box.current.clientWidth));
    watcher.observe(box.current);
    return () => watcher.disconnect();
  }, []);
  return width;
}

/** `times` in seconds, ascending or not; `series`: `[[label, milliseconds, colour name]]`; a value may be null. */
export function Line({ times, series, zone }) {
  const box = useRef(null), width = useWidth(box);
  const order = times.map((_, at) => at).sort((a, b) => times[a] - times[b]);
  const first = times[order[0]], last = times[order[order.length - 1]];
  const values = series.flatMap(([, found]) => found).filter((value) => value !== null && value !== undefined);
  const top = round(values.reduce((most, value) => Math.max(most, value), 1)), low = Math.min(0, ...values.slice(0, 1000));
  const x = (time) => LEFT + ((time - first) / (last - first || 1)) * (width - LEFT - 12);
  const y = (value) => TOP + (1 - (value - low) / (top - low)) * (HEIGHT - TOP - BOTTOM);
  const path = (found) => {
    let isDown = false;
    return order.map((of, at) => {
      const value = found[of];
      const word = value === null || value === undefined ? "" : `${isDown ? "L" : "M"}${x(times[of]).toFixed(1)} ${y(value).toFixed(1)}`;
      const isLone = word !== "" && !isDown && (found[order[at + 1]] ?? null) === null;
      isDown = word !== "";
      return isLone ? `${word}h4` : word; // a point alone is seen too
    }).join("");
  };
  const labels = first === last ? 1 : Math.max(1, Math.floor((width - LEFT) / LABEL_PX / 1.5));
  const marks = Array.from({ length: labels }, (_, at) => first + ((last - first) * (at + 0.5)) / labels);
  return html`<div class="line" ref=${box}>${width > 0 && order.length > 0 && html`<svg width=${width} height=${HEIGHT} role="img" aria-label=${series.map(([label]) => label).join(", ")}>
    ${[low, (low + top) / 2, top].map((value) => html`<path d=${`M${LEFT} ${y(value)}H${width - 12}`} stroke="var(--line)" /><text x=${LEFT - 6} y=${y(value) + 4} text-anchor="end">${value < 1000 ? `${Number(value.toFixed(1))} ms` : seconds(value / 1000)}</text>`)}
    ${marks.map((mark) => html`<text x=${x(mark)} y=${HEIGHT - 5} text-anchor="middle">${clock(mark * 1000, zone)}</text>`)}
    ${series.map(([label, found, name]) => html`<path key=${label} d=${path(found)} fill="none" stroke=${`var(${name})`} stroke-width="1.5" stroke-linejoin="round" />`)}
  </svg>`}</div>`;
}
