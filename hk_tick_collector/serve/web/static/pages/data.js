// A part of the data: seen, taken away, and the lines that take it from a program.

import { html, useState } from "../vendor/htm-preact.js";
import { apiUrl, getJson, query } from "../api.js";
import { Failed, NotProven } from "../parts.js";
import { clock, count, iso, t, zoneName } from "../text.js";

const FORMATS = [["csv", "CSV"], ["parquet", "Parquet"], ["arrow", "Arrow"], ["ndjson", "NDJSON"], ["json", "JSON"]];
const COLUMNS = ["ts_ms", "symbol", "price", "volume", "turnover", "direction", "tick_type", "seq", "push_type"];

const isNumber = (column) => ["price", "volume", "turnover"].includes(column);
const shownNumber = (value) => (typeof value === "number" ? count(value) : value ?? "–");

export function Copied({ text }) {
  const [done, setDone] = useState(false);
  const copy = () => navigator.clipboard?.writeText(text).then(() => setDone(true), () => {});
  return html`<div class="line-head"><pre tabindex="0">${text}</pre><button onClick=${copy}>${t(done ? "copied" : "copy")}</button></div>`;
}

export function Data({ root, zone, given }) {
  const [asked, setAsked] = useState({ symbols: given.symbol || "", day: given.day || root?.day?.trading_day || "last", types: "price", format: "csv" });
  const [sample, setSample] = useState(null);
  const [error, setError] = useState(null);
  const change = (name) => (event) => setAsked({ ...asked, [name]: event.target.value });
  const symbols = asked.symbols.trim() || "all";
  const types = asked.types === "all" ? "" : asked.types;
  const show = async (event) => {
    event.preventDefault();
    setError(null);
    try { setSample(await getJson(`/v1/ticks?${query({ symbols, day: asked.day, types, limit: 50, fields: COLUMNS.join(",") })}`)); } catch (refused) { setSample(null); setError(refused); }
  };
  const path = `/v1/ticks?${query({ symbols, day: asked.day, types, format: asked.format })}`;
  const name = `ticks-${asked.day}.${asked.format}`;
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const curl = `curl -s -o ${quoted(name)} -H "Authorization: Bearer $KEY" ${quoted(apiUrl(path))}`;
  const python = `import hk_tick_collector as hk\n\nticks = hk.connect(${JSON.stringify(apiUrl(""))}, key).load(${JSON.stringify(symbols === "all" ? "all" : symbols.split(","))}, ${JSON.stringify(asked.day)}, to="polars")`;
  return html`<section class="card"><h1>${t("Data")}</h1>
    <form class="row" onSubmit=${show}>
      <label>${t("symbols")}<input value=${asked.symbols} onInput=${change("symbols")} placeholder="all" pattern="[A-Za-z0-9._, \\-]*" maxlength="2000" /></label>
      <label>${t("day")}<input value=${asked.day} onInput=${change("day")} size="20" pattern="[0-9a-z.,\\-]+" required /></label>
      <label>${t("types")}<select value=${asked.types} onChange=${change("types")}><option value="price">${t("that make the price")}</option><option value="all">${t("all")}</option></select></label>
      <label>${t("format")}<select value=${asked.format} onChange=${change("format")}>${FORMATS.map(([value, word]) => html`<option value=${value}>${word}</option>`)}</select></label>
      <button>${t("Sample")}</button><a class="button" href=${apiUrl(path)} download=${name}>${t("Download")}</a>
    </form>
    <${Failed} error=${error} />
    ${sample && html`<${NotProven} coverage=${sample.coverage} />`}
    ${sample && html`<div class="scroll" tabindex="0" role="region" aria-label=${t("Sample")}><table><thead><tr>${COLUMNS.map((column) => html`<th class=${isNumber(column) ? "num" : ""}>${column}${column === "ts_ms" ? html` <small>${zoneName(zone)}</small>` : ""}</th>`)}</tr></thead>
      <tbody>${sample.data.map((row) => html`<tr>${COLUMNS.map((column) => html`<td class=${isNumber(column) ? "num" : column === "ts_ms" ? "time" : ""} title=${column === "ts_ms" ? iso(row.ts_ms) : null}>${column === "ts_ms" ? clock(row.ts_ms, zone, true) : isNumber(column) ? shownNumber(row[column]) : row[column]}</td>`)}</tr>`)}</tbody></table></div>`}
  </section>
  <section class="card"><h2>${t("In a terminal")}</h2><${Copied} text=${curl} /><h2>${t("In Python")}</h2><${Copied} text=${python} /></section>`;
}
