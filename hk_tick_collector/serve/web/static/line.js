// A line chart of a few series over time, by uPlot, which is a classic script and therefore loaded on demand.

import { html, useEffect, useRef } from "./vendor/htm-preact.js";
import { clock, prefs } from "./text.js";

let loaded = null;
function uplot() {
  loaded ??= new Promise((done, failed) => {
    const style = Object.assign(document.createElement("link"), { rel: "stylesheet", href: new URL("vendor/uplot.css", import.meta.url).href });
    const script = Object.assign(document.createElement("script"), { src: new URL("vendor/uplot.js", import.meta.url).href });
    script.onload = () => done(window.uPlot);
    script.onerror = () => { loaded = null; failed(new Error("uplot.js")); };
    document.head.append(style, script);
  });
  return loaded;
}
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** `times` in seconds, ascending or not; `series`: `[[label, values, colour name]]`. */
export function Line({ times, series, zone, unit }) {
  const box = useRef(null), chart = useRef(null);
  const order = times.map((_, at) => at).sort((a, b) => times[a] - times[b]);
  const data = [order.map((at) => times[at]), ...series.map(([, values]) => order.map((at) => values[at]))];
  useEffect(() => {
    let isOver = false, watcher = null;
    uplot().then((uPlot) => {
      if (isOver) return;
      const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
      chart.current = new uPlot({
        width: box.current.clientWidth, height: 160, legend: { show: false }, cursor: { show: false },
        series: [{}, ...series.map(([label, , name]) => ({ label, stroke: colour(name), width: 1, points: { show: false } }))],
        axes: [{ ...axis, space: 70, values: (_, marks) => marks.map((mark) => clock(mark * 1000, zone)) }, { ...axis, size: 56, values: (_, marks) => marks.map((mark) => `${mark} ${unit}`) }],
      }, data, box.current);
      watcher = new ResizeObserver(() => chart.current?.setSize({ width: box.current.clientWidth, height: 160 }));
      watcher.observe(box.current);
    }, () => {});
    return () => { isOver = true; watcher?.disconnect(); chart.current?.destroy(); chart.current = null; };
  }, [zone, prefs.theme, prefs.language]);
  useEffect(() => { chart.current?.setData(data); });
  return html`<div class="line" ref=${box} role="img" aria-label=${series.map(([label]) => label).join(", ")}></div>`;
}
