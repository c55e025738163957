// One symbol: its candles, its tape, how late its ticks are, and whether its day is proven.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { CandlestickSeries, createChart, HistogramSeries } from "../vendor/lightweight-charts.js";
import { follow, getJson, query } from "../api.js";
import { Failed, Loading, State, Time, usePoll, Zone } from "../parts.js";
import { count, prefs, price, said, seconds, t, zoneOffset } from "../text.js";
import { Line } from "../line.js";
import { Ladder } from "./ladder.js";

const TAPE_ROWS = 60, LATENCY_ROWS = 600;
const INTERVALS = ["1m", "5m", "15m", "1h"];
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function Candles({ bars, zone, symbol }) {
  const box = useRef(null), chart = useRef(null);
  useEffect(() => {
    const made = createChart(box.current, {
      autoSize: true, layout: { background: { color: colour("--card") }, textColor: colour("--soft"), attributionLogo: false },
      grid: { vertLines: { color: colour("--line") }, horzLines: { color: colour("--line") } },
      timeScale: { timeVisible: true, secondsVisible: false, borderColor: colour("--line") }, rightPriceScale: { borderColor: colour("--line") },
    });
    const candles = made.addSeries(CandlestickSeries, {
      upColor: colour("--cell-proven"), downColor: colour("--cell-missing"), borderVisible: false,
      wickUpColor: colour("--cell-proven"), wickDownColor: colour("--cell-missing"), priceFormat: { type: "price", precision: 3, minMove: 0.001 },
    });
    const volume = made.addSeries(HistogramSeries, { priceScaleId: "", priceFormat: { type: "volume" }, color: colour("--none") });
    volume.priceScale().applyOptions({ scaleMargins: { top: 0.82, bottom: 0 } });
    candles.priceScale().applyOptions({ scaleMargins: { top: 0.06, bottom: 0.24 } });
    chart.current = { made, candles, volume, shown: "" };
    return () => { chart.current = null; made.remove(); };
  }, [symbol, prefs.theme]);
  useEffect(() => {
    if (!chart.current) return;
    // The library knows UTC alone: what it takes for UTC is the market's own clock. All bars at once, for one of the past
    // may have been repaired.
    const at = (bar) => (bar.start_ms + zoneOffset(bar.start_ms, zone)) / 1000;
    const traded = bars.filter((bar) => bar.open !== null);
    chart.current.candles.setData(traded.map((bar) => ({ time: at(bar), open: +bar.open, high: +bar.high, low: +bar.low, close: +bar.close })));
    chart.current.volume.setData(traded.map((bar) => ({ time: at(bar), value: bar.volume })));
    if (chart.current.shown !== symbol && traded.length) { chart.current.made.timeScale().fitContent(); chart.current.shown = symbol; }
  }, [bars, zone, symbol, prefs.theme]);
  const last = bars[bars.length - 1];
  return html`<div class="chart" ref=${box} role="img" aria-label=${last ? `${symbol} ${t("price")} ${price(last.close)}` : symbol}></div>`;
}

/** The newest ticks, from the live channel when there is one, else asked for every second. */
function useTape(symbol) {
  const [state, setState] = useState("reconnecting");
  const [rows, setRows] = useState([]);
  const [error, setError] = useState(null);
  useEffect(() => {
    let isOver = false, timer = 0, coming = [];
    const key = (row) => `${row.ts_ms} ${row.seq} ${row.occurrence}`;
    const add = (more) => setRows((old) => {
      const there = new Set(old.map(key));
      return [...old, ...more.filter((row) => !there.has(key(row)))].slice(-LATENCY_ROWS);
    });
    const ask = async () => {
      try {
        const answer = await getJson(`/v1/ticks/latest?${query({ symbols: symbol, n: 200 })}`);
        if (isOver) return;
        add(answer.data); setError(null);
      } catch (refused) { if (!isOver) setError(refused); }
    };
    const poll = async () => { await ask(); if (!isOver) timer = setTimeout(poll, document.hidden ? 15_000 : 1000); };
    const flush = setInterval(() => { if (coming.length) { add(coming); coming = []; } }, 100); // ten times a second at most
    setRows([]); ask();
    const end = follow(symbol, (more) => { coming = [...coming, ...more].slice(-LATENCY_ROWS); }, (now) => { setState(now); if (now === "none") poll(); else if (now === "live") ask(); });
    return () => { isOver = true; clearTimeout(timer); clearInterval(flush); end(); };
  }, [symbol]);
  return [rows, state, error];
}

const middle = (values) => (values.length ? [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] : null);

function Latency({ rows, zone }) {
  const pushed = rows.filter((row) => row.push_type === "push" && row.recv_ts_ms !== null);
  const source = pushed.map((row) => row.recv_ts_ms - row.ts_ms), file = pushed.map((row) => row.inserted_at_ms - row.recv_ts_ms);
  return html`<section class="card"><h2>${t("Latency")}</h2>
    <div class="legend"><span><i style=${{ background: "var(--link)" }}></i>${t("source to recorder")}: <b class="num">${seconds(middle(source) === null ? null : middle(source) / 1000)}</b></span>
      <span><i style=${{ background: "var(--warn)" }}></i>${t("recorder to file")}: <b class="num">${seconds(middle(file) === null ? null : middle(file) / 1000)}</b></span> <span>(${t("median")}, ${count(pushed.length)})</span></div>
    <${Line} times=${pushed.map((row) => row.ts_ms / 1000)} series=${[[t("source to recorder"), source, "--link"], [t("recorder to file"), file, "--warn"]]} zone=${zone} />
  </section>`;
}

function Shown({ symbol, name, market, zone }) {
  const [interval, setInterval_] = useState("1m");
  const [rows, state, error] = useTape(symbol);
  const [found, barsError] = usePoll((signal) => getJson(`/v1/bars?${query({ symbols: symbol, interval, limit: 2000 })}`, signal), `${symbol} ${interval}`, 2000);
  const [coverage] = usePoll((signal) => getJson(`/v1/coverage?${query({ symbols: symbol })}`, signal), symbol, 5000);
  const last = rows[rows.length - 1];
  const verdict = coverage?.data?.[0];
  const words = { live: "live", none: "every second", reconnecting: "reconnecting" };
  return html`<section class="card">
    <div class="row"><h1>${symbol}</h1>${name && html`<span>${name}</span>`}${last && html`<b class="num">${price(last.price)}</b><${Time} ms=${last.ts_ms} zone=${zone} millis /><${Zone} zone=${zone} />`}
      ${verdict && html`<span title=${verdict.reason ?? ""}><${State} state=${verdict.state} /></span>`}
      <span class="soft" role="status">${t(words[state])}</span>
      <span class="push row" role="group" aria-label=${t("interval")}>${INTERVALS.map((name) => html`<button aria-pressed=${name === interval ? "true" : "false"} onClick=${() => setInterval_(name)}>${name}</button>`)}</span></div>
    <${Failed} error=${error ?? barsError} />
    ${verdict?.reason && html`<p class="note">${said(verdict.reason)}</p>`}
    <${Candles} bars=${found?.data ?? []} zone=${zone} symbol=${symbol} />
  </section>
  <div class="split">
    <section class="card"><h2>${t("Tape")}</h2><div class="scroll" tabindex="0" role="region" aria-label=${t("Tape")}><table>
      <thead><tr><th>${t("time")} <${Zone} zone=${zone} /></th><th class="num">${t("price")}</th><th class="num">${t("volume")}</th><th>${t("side")}</th><th>${t("type")}</th></tr></thead>
      <tbody>${rows.slice(-TAPE_ROWS).reverse().map((row) => html`<tr key=${`${row.ts_ms} ${row.seq} ${row.occurrence}`}><td class="time"><${Time} ms=${row.ts_ms} zone=${zone} millis /></td>
        <td class=${`num ${row.direction}`}>${price(row.price)}</td><td class="num">${count(row.volume)}</td><td class=${`${row.direction} time`}>${t(row.direction)}</td><td class="time">${row.tick_type}</td></tr>`)}</tbody></table></div></section>
    <${Latency} rows=${rows} zone=${zone} />
    <${Ladder} symbol=${symbol} zone=${zone} />
  </div>`;
}

export function Symbol({ root, market, zone, of }) {
  const [symbols, error] = usePoll((signal) => getJson(`/v1/days/last/symbols?${query({ market })}`, signal), `symbols ${market}`, 60_000);
  const names = (symbols?.data ?? []).map((line) => line.symbol);
  const titles = new Map((symbols?.data ?? []).map((line) => [line.symbol, line.name]));
  const most = (symbols?.data ?? []).reduce((top, line) => (!top || line.rows > top.rows ? line : top), null);
  const symbol = of || most?.symbol || "";
  const pick = (event) => {
    event.preventDefault();
    const given = new FormData(event.target).get("symbol").trim().toUpperCase();
    const chosen = names.find((name) => name === given || name.split(".").slice(1).join(".").replace(/^0+/, "") === given.replace(/^0+/, "")) ?? given;
    if (chosen) location.hash = `/symbol/${encodeURIComponent(chosen)}${market ? `?market=${market}` : ""}`;
  };
  return html`<form class="row" onSubmit=${pick}>
      <label class="row">${t("symbol")} <input name="symbol" list="symbols" value=${symbol} size="12" autocomplete="off" /></label>
      <datalist id="symbols">${names.map((name) => html`<option value=${name}>${titles.get(name) ?? ""}</option>`)}</datalist>
      <button>${t("Show")}</button></form>
    ${symbol ? html`<${Shown} key=${symbol} symbol=${symbol} name=${titles.get(symbol)} market=${market} zone=${zone} />` : html`<section class="card"><h1>${t("Symbol")}</h1><${Loading} answer=${symbols} error=${error} />${(symbols || error) && html`<p>${t("Nothing is recorded here yet")}</p>`}</section>`}`;
}
