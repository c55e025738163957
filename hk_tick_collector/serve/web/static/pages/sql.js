// One SELECT over recorded days, for keys that may.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { apiUrl, askSql } from "../api.js";
import { Failed, NotProven, When, Zone } from "../parts.js";
import { count, iso, t } from "../text.js";
import { Copied } from "./data.js";

const ROWS = 500;
const EXAMPLES = [
  ["most turnover", "SELECT symbol, count(*) AS ticks, sum(turnover) AS turnover\nFROM ticks GROUP BY symbol ORDER BY turnover DESC LIMIT 20"],
  ["ticks by hour", "SELECT hour(ts_ms) AS hour, count(*) AS ticks FROM ticks GROUP BY 1 ORDER BY 1"],
  ["not proven", "SELECT symbol, state, reason, missing_ticks FROM coverage\nWHERE state <> 'proven' ORDER BY missing_ticks DESC LIMIT 50"],
];

const cell = (name, value) => (value === null || value === undefined ? "–" : typeof value === "number" && !name.endsWith("_ms") ? count(value) : typeof value === "object" ? JSON.stringify(value) : String(value));

export function Result({ rows }) {
  const names = rows.length ? Object.keys(rows[0]) : [];
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${t("Rows")}><table>
    <thead><tr>${names.map((name) => html`<th class=${typeof rows[0][name] === "number" ? "num" : ""}>${name}</th>`)}</tr></thead>
    <tbody>${rows.map((row) => html`<tr>${names.map((name) => html`<td class=${typeof row[name] === "number" ? "num" : ""}
      title=${name.endsWith("_ms") && Number.isFinite(row[name]) ? iso(row[name]) : null}>${cell(name, row[name])}</td>`)}</tr>`)}</tbody></table></div>`;
}

export function Sql({ root, market, zone, given }) {
  const [sql, setSql] = useState(EXAMPLES[0][1]);
  const [day, setDay] = useState(given.day || root?.day?.trading_day || "last");
  const [state, setState] = useState({ answer: null, error: null, isAsking: false });
  const running = useRef(null);
  useEffect(() => () => running.current?.abort(), []);
  const run = async (event) => {
    event?.preventDefault();
    running.current?.abort();
    const mine = running.current = new AbortController();
    setState((old) => ({ ...old, error: null, isAsking: true }));
    try {
      const answer = await askSql({ sql, day, limit: ROWS, format: "json", ...(market ? { market } : {}) }, mine.signal);
      if (running.current === mine) setState({ answer, error: null, isAsking: false });
    } catch (error) {
      if (running.current === mine) setState({ answer: null, error: error.name === "AbortError" ? null : error, isAsking: false });
    }
  };
  const { answer, error, isAsking } = state;
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const curl = `curl -s -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' ${quoted(apiUrl("/v1/sql"))} -d ${quoted(JSON.stringify({ sql, day, format: "csv" }))}`;
  return html`<section class="card"><h1>SQL</h1>
    <form onSubmit=${run} class="ask">
      <label>${t("One SELECT over ticks, coverage, gaps, symbols, books, quotes, brokers, snapshots and all_snapshots")}<textarea name="sql" rows="5" maxlength="20000" spellcheck="false" value=${sql} onInput=${(event) => setSql(event.target.value)}
        onKeyDown=${(event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run(event); }}></textarea></label>
      <div class="row"><label>${t("day")}<input value=${day} onInput=${(event) => setDay(event.target.value)} size="20" maxlength="100" pattern="[0-9a-z.,\\-]+" required /></label>
        <button class="main" disabled=${isAsking}>${t("Run")}</button>
        ${isAsking && html`<button type="button" onClick=${() => running.current?.abort()}>${t("Stop")}</button>`}
        <span class="row" role="group" aria-label=${t("Examples")}>${EXAMPLES.map(([word, text]) => html`<button type="button" onClick=${() => setSql(text)}>${t(word)}</button>`)}</span></div>
    </form>
    <${Failed} error=${error} />
    ${error?.slug === "forbidden" && html`<pre>hk-tickctl keys add NAME --scopes read,live,sql</pre>`}
    ${answer && html`<p class="soft" role="status">${count(answer.data.length)} ${t("rows")}${answer.truncated ? ` (${t("there are more")})` : ""}, ${t("as of")} <${When} ms=${answer.as_of?.at_ms} zone=${zone} /> <${Zone} zone=${zone} /></p>
      <${NotProven} coverage=${answer.coverage} />
      <${Result} rows=${answer.data} />`}
  </section>
  <section class="card"><h2>${t("In a terminal")}</h2><${Copied} text=${curl} /></section>`;
}
