// What was told to people, what is wrong now, and what nobody is told about.

import { html, useState } from "../vendor/htm-preact.js";
import { getJson, mute } from "../api.js";
import { Failed, usePoll, When, Zone } from "../parts.js";
import { complaint, count, t } from "../text.js";

const levelOf = (level) => ({ alert: "alert", warn: "warn" })[level] ?? "info";

function Fate({ letter, zone }) {
  if (letter.sent_ms) return html`<span class="state fine">${t("sent")}</span> <${When} ms=${letter.sent_ms} zone=${zone} />`;
  const word = letter.given_up_ms ? "given up" : "waits";
  return html`<span class=${`state ${letter.given_up_ms ? "alert" : "warn"}`}>${t(word)}</span> ${letter.reason ?? ""}`;
}

const SPANS = [["30 min", 1800], ["2 h", 7200], ["8 h", 28_800], ["1 d", 86_400], ["7 d", 604_800]];

/** For one of `codes`; asks for a key each time, for a page that was left open must not silence anything. */
function Mute({ codes, muted, onDone }) {
  const [error, setError] = useState(null);
  const send = (is_over) => async (event) => {
    event.preventDefault();
    const form = event.target.closest("form"), given = new FormData(form);
    setError(null);
    try { await mute(given.get("code"), is_over ? 0 : Number(given.get("for")), given.get("key").trim()); form.reset(); onDone(); } catch (refused) { setError(refused); }
  };
  return html`<form class="row" onSubmit=${send(false)}>
    <label>${t("rule")}<input name="code" list="codes" required pattern="[a-z_]+" maxlength="40" size="18" autocomplete="off" /></label>
    <datalist id="codes">${codes.map((code) => html`<option value=${code}></option>`)}</datalist>
    <label>${t("for")}<select name="for">${SPANS.map(([word, seconds]) => html`<option value=${seconds}>${word}</option>`)}</select></label>
    <label>${t("key with the scope mute")}<input name="key" type="password" autocomplete="off" maxlength="200" placeholder="hktk_…" /></label>
    <button>${t("Mute")}</button>
    ${muted.length > 0 && html`<button type="button" onClick=${send(true)}>${t("Tell again")}</button>`}
    <${Failed} error=${error} />
  </form>
  <small>hk-tickctl alert mute CODE --for 2h · hk-tickctl keys add NAME --scopes read,mute</small>`;
}

const Off = () => html`<p class="note">${t("No outbox of hk-tick-alert is known to this server.")}</p>
  <p>${t("To be called when something is wrong, set ALERT_FILE and ALERT_DIR, start hk-tick-alert, and give this server the same ALERT_DIR.")}</p>
  <pre>hk-tickctl alert test</pre>`;

export function Alerts({ zone }) {
  const [found, error, ask] = usePoll((signal) => getJson("/v1/alerts", signal), "alerts", 5000);
  const firing = (found?.events ?? []).filter((event) => event.fired_ms);
  const mutes = Object.entries(found?.mutes ?? {});
  return html`<section class="card"><h1>${t("Alerts")}</h1>
    <${Failed} error=${error} />
    ${found && !found.is_on && html`<${Off} />`}
    ${found?.is_on && html`<h2>${t("Wrong now")}</h2>
      ${firing.length === 0 ? html`<p>${t("Nothing.")}</p>` : html`<ul class="plain">${firing.map((event) => html`<li key=${`${event.code} ${event.subject}`}>
        <span class=${`state ${levelOf(event.level)}`}></span> ${complaint(event)} <small>(${event.code}, ${t("since")} <${When} ms=${event.fired_ms} zone=${zone} /> <${Zone} zone=${zone} />${event.is_flapping ? `, ${t("comes and goes")}` : ""})</small></li>`)}</ul>`}
      ${mutes.length > 0 && html`<h2>${t("Muted")}</h2><ul class="plain">${mutes.map(([code, until]) => html`<li><code>${code}</code> ${t("until")} <${When} ms=${until} zone=${zone} /> <${Zone} zone=${zone} /></li>`)}</ul>`}
      <h2>${t("Mute")}</h2><${Mute} codes=${[...new Set([...firing.map((event) => event.code), ...mutes.map(([code]) => code)])]} muted=${mutes} onDone=${ask} />`}
  </section>
  ${found?.is_on && html`<section class="card"><div class="row"><h2>${t("Told")}</h2><span class="push soft">${count(found.letters.length)}</span></div>
    ${found.letters.length === 0 ? html`<p>${t("Nothing.")}</p>` : html`<div class="scroll" tabindex="0" role="region" aria-label=${t("Told")}><table>
      <thead><tr><th>${t("time")} <${Zone} zone=${zone} /></th><th>${t("target")}</th><th>${t("text")}</th><th>${t("state")}</th></tr></thead>
      <tbody>${found.letters.map((letter) => html`<tr key=${letter.number}><td class="time"><${When} ms=${letter.created_ms} zone=${zone} /></td><td>${letter.target}<br /><small>${letter.kind}</small></td>
        <td><span class=${`state ${levelOf(letter.level)}`}></span> ${letter.lines.map((line, at) => html`${at ? html`<br />` : ""}${line}`)}</td><td class="words"><${Fate} letter=${letter} zone=${zone} /></td></tr>`)}</tbody></table></div>`}
  </section>`}`;
}
