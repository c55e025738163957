// What is missing? A row for each symbol, a column for five minutes, a table of the same for those who do not see it.

import { html, useEffect, useMemo, useRef, useState } from "../vendor/htm-preact.js";
import { getJson, query } from "../api.js";
import { cellsOf, cellState, sorted } from "../cells.js";
import { Failed, Loading, Share, State, Time, usePoll, Zone } from "../parts.js";
import { clock, count, dayText, prefs, said, t } from "../text.js";

const ROW_PX = 14, NAME_PX = 92, HEAD_PX = 18;
const STATES = ["proven", "missing", "unproven", "repaired", "pending", "none"];
const WORDS = { pending: "not proven yet", none: "outside of trading" };

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function draw(canvas, box, rows, cells, zone) {
  const width = box.clientWidth, height = Math.min(box.clientHeight, HEAD_PX + rows.length * ROW_PX);
  const scale = devicePixelRatio || 1;
  canvas.width = width * scale; canvas.height = height * scale;
  canvas.style.width = `${width}px`; canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const colours = Object.fromEntries(STATES.map((state) => [state, colour(`--cell-${state}`)]));
  const cellPx = (width - NAME_PX) / Math.max(cells.length, 1);
  pen.font = "11px system-ui, sans-serif"; pen.textBaseline = "middle";
  pen.fillStyle = colour("--soft");
  let next = NAME_PX;
  cells.forEach((cell, at) => {
    const x = NAME_PX + at * cellPx;
    if (x >= next && x + 32 < width && (at === 0 || cell.start_ms % 1_800_000 === 0 || cells[at - 1].end_ms !== cell.start_ms)) {
      pen.fillText(clock(cell.start_ms, zone).slice(0, 5), x, HEAD_PX / 2); next = x + 42;
    }
  });
  const first = Math.floor(box.scrollTop / ROW_PX);
  const last = Math.min(rows.length, first + Math.ceil(height / ROW_PX) + 1);
  pen.save(); pen.beginPath(); pen.rect(0, HEAD_PX, width, height); pen.clip();
  for (let at = first; at < last; at += 1) {
    const y = HEAD_PX + at * ROW_PX - box.scrollTop;
    pen.fillStyle = colour("--text");
    pen.fillText(rows[at].symbol.symbol, 4, y + ROW_PX / 2, NAME_PX - 8);
    rows[at].states.forEach((state, column) => {
      pen.fillStyle = colours[state];
      pen.fillRect(NAME_PX + column * cellPx, y + 1, Math.max(cellPx - (cellPx > 4 ? 1 : 0), 1), ROW_PX - 2);
    });
  }
  pen.restore();
}

function HeatMap({ rows, cells, zone, onPick }) {
  const box = useRef(null), canvas = useRef(null);
  const [told, setTold] = useState("");
  useEffect(() => {
    const paint = () => requestAnimationFrame(() => box.current && draw(canvas.current, box.current, rows, cells, zone));
    paint();
    const watcher = new ResizeObserver(paint);
    watcher.observe(box.current);
    box.current.addEventListener("scroll", paint);
    return () => { watcher.disconnect(); box.current?.removeEventListener("scroll", paint); };
  }, [rows, cells, zone, prefs.theme]);
  const under = (event) => {
    const edge = canvas.current.getBoundingClientRect();
    const row = rows[Math.floor((event.clientY - edge.top - HEAD_PX + box.current.scrollTop) / ROW_PX)];
    const column = Math.floor(((event.clientX - edge.left - NAME_PX) / (edge.width - NAME_PX)) * cells.length);
    return row ? { row, cell: cells[column], state: row.states[column] } : null;
  };
  const move = (event) => {
    const found = under(event);
    setTold(!found ? "" : found.cell ? `${found.row.symbol.symbol} ${found.row.symbol.name ?? ""} ${clock(found.cell.start_ms, zone).slice(0, 5)} ${t(WORDS[found.state] ?? found.state)}` : found.row.symbol.symbol);
  };
  const height = HEAD_PX + rows.length * ROW_PX;
  return html`<div>
    <div class="heat" ref=${box} tabindex="0" role="group" aria-label=${t("Coverage")} style=${{ height: `min(${height + 2}px, 64vh)` }}>
      <div style=${{ height: `${height}px` }}><canvas ref=${canvas} onMouseMove=${move} onMouseLeave=${() => setTold("")}
        onClick=${(event) => { const found = under(event); if (found) onPick(found.row.symbol.symbol); }}></canvas></div>
    </div>
    <p class="soft" aria-hidden="true">${told || " "}</p>
  </div>`;
}

function useDay(day, market, isToday) {
  return usePoll(async (signal) => {
    const of = query({ market });
    const [coverage, gaps, calendar] = await Promise.all([
      getJson(`/v1/days/${day}/coverage?${of}`, signal), getJson(`/v1/days/${day}/gaps?${query({ market, state: "all" })}`, signal),
      getJson(`/v1/calendar?${query({ market, first: /^\d+$/.test(day) ? day : null, days: 1 })}`, signal),
    ]);
    return { day: coverage.day, symbols: coverage.data, gaps: gaps.data, sessions: calendar.data[0]?.sessions ?? [] };
  }, `${day} ${market}`, isToday ? 5000 : 60_000);
}

/** Rows of the map; the test asks for the same. */
export function rowsOf(found, now, filter, by) {
  const wanted = filter.trim().toUpperCase();
  const symbols = sorted(found.symbols.filter((symbol) => symbol.symbol.includes(wanted) || (symbol.name ?? "").toUpperCase().includes(wanted)), by);
  const times = found.symbols.flatMap((symbol) => (symbol.first_ts_ms === null ? [] : [symbol.first_ts_ms, symbol.last_ts_ms]));
  const bounds = times.reduce(([low, high], ms) => [Math.min(low, ms), Math.max(high, ms)], [Infinity, -Infinity]);
  const cells = cellsOf(found.sessions, times.length ? bounds[0] : null, bounds[1]);
  const bySymbol = new Map();
  for (const gap of found.gaps) bySymbol.set(gap.symbol, [...(bySymbol.get(gap.symbol) ?? []), gap]);
  const rows = symbols.map((symbol) => ({
    symbol, states: cells.map((cell) => cellState(cell, symbol, bySymbol.get(symbol.symbol) ?? [], now)),
  }));
  return { cells, rows };
}

export function Coverage({ root, market, zone, given }) {
  const newest = root?.day?.trading_day ?? "last";
  const [day, setDay] = useState(given.day || newest);
  const [filter, setFilter] = useState(given.filter || "");
  const [by, setBy] = useState("worst");
  const [days] = usePoll((signal) => getJson(`/v1/days?${query({ market, limit: 400 })}`, signal), `days ${market}`, 60_000);
  const [found, error] = useDay(day, market, day === newest);
  const isEmpty = days && !days.data.length;
  const minute = Math.floor(Date.now() / 60_000);
  const { cells, rows } = useMemo(() => (found ? rowsOf(found, Date.now(), filter, by) : { cells: [], rows: [] }), [found, filter, by, minute]);
  const counts = { proven: 0, missing: 0, unproven: 0 };
  for (const symbol of found?.symbols ?? []) counts[symbol.state] += 1;
  const shown = rows.filter(({ symbol }) => symbol.state !== "proven" || filter).slice(0, 500);
  const gaps = (found?.gaps ?? []).filter((gap) => gap.symbol.includes(filter.trim().toUpperCase())).slice(0, 500);
  return html`<section class="card">
    <div class="row"><h1>${t("Coverage")}</h1>
      <label>${t("day")}<select value=${day} onChange=${(event) => setDay(event.target.value)}>
        ${[...new Set([day, ...(days?.data ?? []).map((line) => line.day)])].filter((name) => name !== "last").sort().reverse().map((name) => html`<option value=${name}>${dayText(name)}</option>`)}</select></label>
      <label>${t("filter")}<input value=${filter} onInput=${(event) => setFilter(event.target.value)} placeholder="00700" size="10" /></label>
      <label>${t("sort")}<select value=${by} onChange=${(event) => setBy(event.target.value)}>
        <option value="worst">${t("worst first")}</option><option value="symbol">${t("by symbol")}</option><option value="ticks">${t("most ticks first")}</option></select></label>
    </div>
    ${isEmpty ? html`<p>${t("Nothing is recorded here yet")}</p>` : html`<${Loading} answer=${found} error=${error} /><${Failed} error=${error} />`}
    ${found && html`<${Share} counts=${counts} />
      <${HeatMap} rows=${rows} cells=${cells} zone=${zone} onPick=${(symbol) => setFilter(symbol)} />
      <div class="legend">${STATES.map((state) => html`<span><i style=${{ background: `var(--cell-${state})` }}></i>${t(WORDS[state] ?? state)}</span>`)}</div>`}
  </section>
  ${found && html`<section class="card"><h2>${t("Not proven")}</h2>
    ${shown.length === 0 ? html`<p>${t("None.")}</p>` : html`<div class="scroll" tabindex="0" role="region" aria-label=${t("Not proven")}><table>
      <thead><tr><th>${t("symbol")}</th><th>${t("state")}</th><th>${t("reason")}</th><th class="num">${t("stored")}</th><th class="num">${t("missing")}</th><th class="num">${t("verified until")} <${Zone} zone=${zone} /></th></tr></thead>
      <tbody>${shown.map(({ symbol }) => html`<tr key=${symbol.symbol}><td><a href=${`#/symbol/${symbol.symbol}`}>${symbol.symbol}</a> <small>${symbol.name ?? ""}</small></td><td><${State} state=${symbol.state} /></td>
        <td class="words">${said(symbol.reason)}</td><td class="num">${count(symbol.stored_ticks)}</td>
        <td class="num">${symbol.missing_ticks ? count(symbol.missing_ticks) : symbol.missing_at_most ? `${t("at most")} ${count(symbol.missing_at_most)}` : symbol.state === "missing" ? t("unknown") : "0"}</td>
        <td class="num"><${Time} ms=${symbol.verified_until_ms} zone=${zone} /></td></tr>`)}</tbody></table></div>`}
  </section>
  <section class="card"><h2>${t("All gaps")}</h2>
    ${gaps.length === 0 ? html`<p>${t("No gap is known.")}</p>` : html`<div class="scroll" tabindex="0" role="region" aria-label=${t("All gaps")}><table>
      <thead><tr><th>${t("symbol")}</th><th>${t("state")}</th><th class="num">${t("from")} <${Zone} zone=${zone} /></th><th class="num">${t("to")}</th><th class="num">${t("missing")}</th><th>${t("reason")}</th></tr></thead>
      <tbody>${gaps.map((gap) => html`<tr><td>${gap.symbol}</td><td><span class=${`state ${gap.state === "open" ? "missing" : "proven"}`}>${t(gap.state === "open" ? "open" : "repaired")}</span></td>
        <td class="num"><${Time} ms=${gap.start_ts_ms} zone=${zone} /></td><td class="num"><${Time} ms=${gap.end_ts_ms} zone=${zone} /></td>
        <td class="num">${gap.missing_ticks ?? gap.counters ?? t("unknown")}</td><td class="words">${said(gap.reason)}</td></tr>`)}</tbody></table></div>
      <pre>${`hk-tickctl gaps ${found.day}\nhk-tickctl repair ${found.day}`}</pre>`}
  </section>`}`;
}
