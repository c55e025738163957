// Every recorder behind this server: how each is, and a restart of its feed.

import { html, useState } from "../vendor/htm-preact.js";
import { restart } from "../api.js";
import { Failed, Time, Zone } from "../parts.js";
import { complaint, count, iso, seconds, t } from "../text.js";

const KINDS = { fine: "fine", no_data: "info", problem: "alert" };
const WORDS = { fine: "fine", no_data: "nothing yet", problem: "problem" };

function Row({ root, zone, now }) {
  const recorder = root.recorder, gravest = root.complaints[0];
  const newest = recorder?.newest_ts_ms ?? root.day?.newest_ts_ms ?? null;
  return html`<tr>
    <td><a href=${`#/?market=${root.market}`}>${root.data_root}</a><br /><small>${root.market}, ${t(root.phase.replaceAll("_", " "))}</small></td>
    <td><span class=${`state ${KINDS[root.verdict]}`}>${t(WORDS[root.verdict])}</span></td>
    <td>${root.running && recorder ? html`${recorder.source} ${t(recorder.opend_state.replace("_", " "))}<br /><small>${count(recorder.symbols_subscribed)} ${t("of")} ${count(recorder.symbols_wanted)}</small>` : t("not running")}</td>
    <td class="num">${root.running && recorder ? count(recorder.rows_per_sec) : "–"}</td>
    <td class="num" title=${iso(newest)}>${newest ? seconds((now - newest) / 1000) : "–"}</td>
    <td class="words">${gravest ? html`<span class=${`state ${gravest.level === "note" ? "info" : gravest.level}`}></span> ${complaint(gravest)} <small>(${gravest.code})</small>` : "–"}
      ${recorder?.restarted_at_ms && html`<br /><small>${t("restarted")} <${Time} ms=${recorder.restarted_at_ms} zone=${zone} /> <${Zone} zone=${zone} />, ${recorder.restarted_by}</small>`}</td>
  </tr>`;
}

/** Asks for a key each time, for a page that was left open must not restart anything. */
function Restart({ roots }) {
  const [error, setError] = useState(null), [asked, setAsked] = useState(null);
  const send = async (event) => {
    event.preventDefault();
    const form = event.target, given = new FormData(form);
    setError(null);
    setAsked(null);
    try { setAsked(await restart(given.get("source"), given.get("key").trim())); form.reset(); } catch (refused) { setError(refused); }
  };
  const recorder = asked && roots.find((root) => root.data_root === asked.source)?.recorder;
  const isDone = asked && recorder?.restarted_at_ms >= asked.asked_at_ms;
  const word = !isDone ? "asked for" : recorder.opend_state === "ready" ? "restarted and connected again" : "restarted, connecting";
  return html`<form class="row" onSubmit=${send}>
    <label>${t("source")}<select name="source">${roots.map((root) => html`<option value=${root.data_root}>${root.data_root}</option>`)}</select></label>
    <label>${t("key with the scope restart")}<input name="key" type="password" autocomplete="off" maxlength="200" placeholder="hktk_…" /></label>
    <button>${t("Restart the feed")}</button>
    ${asked && html`<span role="status">${asked.source}: ${t(word)}</span>`}
    <${Failed} error=${error} />
  </form>
  <small>${t("The connection ends and a new one is made; the recorder goes on and fetches what was traded meanwhile.")} hk-tickctl keys add NAME --scopes read,restart</small>`;
}

export function Sources({ status, zone, now }) {
  const heard = status.roots.filter((root) => root.running && root.recorder?.takes_restarts);
  return html`<section class="card"><h1>${t("Sources")}</h1>
    <div class="scroll" tabindex="0" role="region" aria-label=${t("Sources")}><table>
      <thead><tr>${["recorder", "state", "source", "rows a second", "newest", "complaint"].map((word) => html`<th class=${word === "rows a second" || word === "newest" ? "num" : ""}>${t(word)}</th>`)}</tr></thead>
      <tbody>${status.roots.map((root) => html`<${Row} key=${root.data_root} root=${root} zone=${zone} now=${now} />`)}</tbody></table></div>
  </section>
  <section class="card"><h2>${t("Restart a feed")}</h2>
    ${heard.length ? html`<${Restart} roots=${heard} />` : html`<p class="note">${t("No recorder here takes requests: under systemd each does; elsewhere set RESTARTS_DIR for the recorder and for this server.")}</p>`}
  </section>`;
}
