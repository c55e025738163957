// What was told to people, what is wrong now, and what nobody is told about.

import { html } from "../vendor/htm-preact.js";
import { getJson } from "../api.js";
import { Failed, usePoll } from "../parts.js";
import { count, iso, t } from "../text.js";

const when = (ms) => (ms ? html`<time datetime=${iso(ms)} title=${iso(ms)}>${iso(ms).slice(5, 16)}</time>` : "–");
const levelOf = (level) => ({ alert: "alert", warn: "warn" })[level] ?? "info";

function Fate({ letter }) {
  if (letter.sent_ms) return html`<span class="state fine">${t("sent")}</span> ${when(letter.sent_ms)}`;
  const word = letter.given_up_ms ? "given up" : "waits";
  return html`<span class=${`state ${letter.given_up_ms ? "alert" : "warn"}`}>${t(word)}</span> ${letter.reason ?? ""}`;
}

const Off = () => html`<p class="note">${t("No outbox of hk-tick-alert is known to this server.")}</p>
  <p>${t("To be called when something is wrong, set ALERT_FILE and ALERT_DIR, start hk-tick-alert, and give this server the same ALERT_DIR.")}</p>
  <pre>hk-tickctl alert test</pre>`;

export function Alerts() {
  const [found, error] = usePoll((signal) => getJson("/v1/alerts", signal), "alerts", 5000);
  const firing = (found?.events ?? []).filter((event) => event.fired_ms);
  const mutes = Object.entries(found?.mutes ?? {});
  return html`<section class="card"><h1>${t("Alerts")}</h1>
    <${Failed} error=${error} />
    ${found && !found.is_on && html`<${Off} />`}
    ${found?.is_on && html`<h2>${t("Wrong now")}</h2>
      ${firing.length === 0 ? html`<p>${t("Nothing.")}</p>` : html`<ul class="plain">${firing.map((event) => html`<li key=${`${event.code} ${event.subject}`}>
        <span class=${`state ${levelOf(event.level)}`}></span> ${event.sentence} <small>(${event.code}, ${t("since")} ${when(event.fired_ms)} UTC${event.is_flapping ? `, ${t("comes and goes")}` : ""})</small></li>`)}</ul>`}
      ${mutes.length > 0 && html`<h2>${t("Muted")}</h2><ul class="plain">${mutes.map(([code, until]) => html`<li><code>${code}</code> ${t("until")} ${when(until)} UTC</li>`)}</ul>`}
      <pre>hk-tickctl alert mute CODE --for 2h</pre>`}
  </section>
  ${found?.is_on && html`<section class="card"><div class="row"><h2>${t("Told")}</h2><span class="push soft">${count(found.letters.length)}</span></div>
    ${found.letters.length === 0 ? html`<p>${t("Nothing.")}</p>` : html`<div class="scroll" tabindex="0" role="region" aria-label=${t("Told")}><table>
      <thead><tr><th>UTC</th><th>${t("target")}</th><th>${t("text")}</th><th>${t("state")}</th></tr></thead>
      <tbody>${found.letters.map((letter) => html`<tr key=${letter.number}><td class="num">${when(letter.created_ms)}</td><td>${letter.target}<br /><small>${letter.kind}</small></td>
        <td><span class=${`state ${levelOf(letter.level)}`}></span> ${letter.lines.map((line, at) => html`${at ? html`<br />` : ""}${line}`)}</td><td><${Fate} letter=${letter} /></td></tr>`)}</tbody></table></div>`}
  </section>`}`;
}
