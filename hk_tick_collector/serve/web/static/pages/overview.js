// Is all well?

import { html, useEffect, useRef } from "../vendor/htm-preact.js";
import { bytes, complaint, count, dayText, iso, seconds, t } from "../text.js";
import { Share, Spark, Time, Zone } from "../parts.js";

const KEPT = 90; // values of a sparkline: three minutes

/** The values seen so far, one for each look. */
function useSeen(at_ms, value) {
  const seen = useRef([]);
  useEffect(() => {
    if (value !== null && value !== undefined) seen.current = [...seen.current, value].slice(-KEPT);
  }, [at_ms]);
  return seen.current;
}

const LEVELS = { alert: "alert", warn: "warn", note: "info" };

function Verdict({ root, name, zone }) {
  const kind = root.verdict === "fine" ? (root.complaints.some((found) => found.level === "warn") ? "attention" : "fine")
    : root.verdict === "no_data" ? "attention" : "alert";
  const word = root.verdict === "no_data" ? "Nothing is recorded here yet"
    : { fine: "All is well", attention: "It records, but needs a look", alert: "Something is wrong" }[kind];
  const sentences = new Set(root.complaints.map((found) => found.sentence));
  const rest = [...root.problems.map((text) => ["alert", text]), ...root.notes.map((text) => ["note", text])]
    .filter(([, text]) => !sentences.has(text));
  const told = [...root.complaints.map((found) => [found.level, found.sentence, found.code]), ...rest];
  return html`<section class=${`card verdict ${kind}`} aria-live="polite">
    <div class="row"><h1>${t(word)}</h1>${name && html`<span>${name}</span>`}
      <span class="push soft">${root.recorder ? html`${t("recorder")} ${root.recorder.version}, pid ${root.recorder.pid}, ${t("since")} <${Time} ms=${root.recorder.started_at_ms} zone=${zone} />` : t("not running")}</span></div>
    ${told.length > 0 && html`<ul>${told.map(([level, text, code]) =>
      html`<li><span class=${`state ${LEVELS[level] ?? "info"}`}></span> ${complaint({ code, sentence: text })} ${code && html`<small>(${code})</small>`}</li>`)}</ul>`}
  </section>`;
}

function Tile({ title, value, children, hover }) {
  return html`<div class="tile" title=${hover}><h3>${t(title)}</h3><b>${value}</b>${children}</div>`;
}

function OfRoot({ root, name, zone, now }) {
  const recorder = root?.recorder ?? null;
  const rates = useSeen(root?.at_ms, recorder?.rows_per_sec);
  const delays = useSeen(root?.at_ms, recorder?.lag_sec);
  const day = root.day;
  const newest = day?.newest_ts_ms ?? recorder?.newest_ts_ms ?? null;
  return html`
    <${Verdict} root=${root} name=${name} zone=${zone} />
    <div class="tiles">
      <${Tile} title="rows a second" value=${recorder ? count(Math.round(recorder.rows_per_sec ?? 0)) : "–"}><${Spark} values=${rates} label=${t("rows a second")} /><//>
      <${Tile} title=${day?.noun === "snapshot" ? "newest snapshot" : "newest tick"} value=${newest ? seconds((now - newest) / 1000) : "–"} hover=${iso(newest)}>${newest && html`<small><${Time} ms=${newest} zone=${zone} millis /> <${Zone} zone=${zone} /></small>`}<//>
      <${Tile} title="delay to the file" value=${seconds(recorder?.lag_sec)}><${Spark} values=${delays} label=${t("delay to the file")} /><//>
      <${Tile} title="stored within (p99)" value=${recorder?.commit_latency_p99_ms != null ? seconds(recorder.commit_latency_p99_ms / 1000) : "–"} />
      <${Tile} title="waiting" value=${recorder ? count(recorder.queue_rows + recorder.in_hand_rows + recorder.spill_rows) : "–"} />
      <${Tile} title="symbols subscribed" value=${recorder ? `${count(recorder.symbols_subscribed)} ${t("of")} ${count(recorder.symbols_wanted)}` : "–"}>
        ${recorder?.symbols_refused > 0 && html`<span class="state missing">${count(recorder.symbols_refused)} ${t("refused")}</span>`}<//>
      <${Tile} title=${recorder?.source ?? "source"} value=${recorder?.opend_state ? t(recorder.opend_state) : "–"}><small>${recorder?.market_state ? t(recorder.market_state) : ""}</small><//>
      <${Tile} title="disk lasts" value=${root.disk?.days_left != null ? `${root.disk.days_left > 1000 ? "> 1,000" : count(Math.floor(root.disk.days_left))} ${t("days")}` : "–"}>
        <small>${bytes(root.disk?.free_bytes)} ${t("free")}</small><//>
    </div>
    ${day && html`<section class="card">
      <div class="row"><h2>${dayText(day.trading_day)}</h2><span class="push num">${count(day.rows)} ${t(`${day.noun ?? "tick"}s`)}</span></div>
      ${day.error ? html`<p class="note bad">${day.error}</p>` : day.noun === "snapshot" ? html`<a href="#/snapshots">${count(day.series)} ${t("series")}</a>` : day.state && html`<${Share} counts=${day.state.symbols} />`}
      ${day.noun !== "snapshot" && html`<div class="row"><a href=${`#/coverage?day=${day.trading_day}`}>${t("Coverage")}</a><a href=${`#/days/${day.trading_day}`}>${t("certificate")}</a></div>`}
    </section>`}`;
}

/** Each data root of the market: twins, or one of ticks and one of snapshots. */
export function Overview({ roots, zone, now }) {
  if (!roots.length) return html`<p class="loading">${t("nothing yet")}</p>`;
  return roots.map((root) => html`<${OfRoot} key=${root.data_root} root=${root} name=${roots.length > 1 ? root.data_root : ""} zone=${zone} now=${now} />`);
}
