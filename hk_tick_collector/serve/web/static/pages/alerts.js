// What was told to people, what is wrong now, and what nobody is told about.

import { html } from "../vendor/htm-preact.js";
import { getJson } from "../api.js";
import { Failed, usePoll, When, Zone } from "../parts.js";
import { count, t, topic } from "../text.js";

const levelOf = (level) => ({ alert: "alert", warn: "warn" })[level] ?? "info";

function Fate({ letter, zone }) {
  if (letter.sent_ms) return html`<span class="state fine">${t("sent")}</span> <${When} ms=${letter.sent_ms} zone=${zone} />`;
  const word = letter.given_up_ms ? "given up" : "waits";
  return html`<span class=${`state ${letter.given_up_ms ? "alert" : "warn"}`}>${t(word)}</span> ${letter.reason ?? ""}`;
}

const Off = () => html`<p class="note">${t("No outbox of hk-tick-alert is known to this server.")}</p>
  <p>${t("To be called when something is wrong, set ALERT_FILE and ALERT_DIR, start hk-tick-alert, and give this server the same ALERT_DIR.")}</p>
  <pre>hk-tickctl alert test</pre>`;

export function Alerts({ zone }) {
  const [found, error] = usePoll((signal) => getJson("/v1/alerts", signal), "alerts", 5000);
  const firing = (found?.events ?? []).filter((event) => event.fired_ms);
  const mutes = Object.entries(found?.mutes ?? {});
  return html`<section class="card"><h1>${t("Alerts")}</h1>
    <${Failed} error=${error} />
    ${found && !found.is_on && html`<${Off} />`}
    ${found?.is_on && html`<h2>${t("Wrong now")}</h2>
      ${firing.length === 0 ? html`<p>${t("Nothing.")}</p>` : html`<ul class="plain">${firing.map((event) => html`<li key=${`${event.code} ${event.subject}`}>
        <span class=${`state ${levelOf(event.level)}`}></span> ${topic(event.code)}${event.sentence} <small>(${event.code}, ${t("since")} <${When} ms=${event.fired_ms} zone=${zone} /> <${Zone} zone=${zone} />${event.is_flapping ? `, ${t("comes and goes")}` : ""})</small></li>`)}</ul>`}
      ${mutes.length > 0 && html`<h2>${t("Muted")}</h2><ul class="plain">${mutes.map(([code, until]) => html`<li><code>${code}</code> ${t("until")} <${When} ms=${until} zone=${zone} /> <${Zone} zone=${zone} /></li>`)}</ul>`}
      <pre>hk-tickctl alert mute CODE --for 2h</pre>`}
  </section>
  ${found?.is_on && html`<section class="card"><div class="row"><h2>${t("Told")}</h2><span class="push soft">${count(found.letters.length)}</span></div>
    ${found.letters.length === 0 ? html`<p>${t("Nothing.")}</p>` : html`<div class="scroll" tabindex="0" role="region" aria-label=${t("Told")}><table>
      <thead><tr><th>${t("time")} <${Zone} zone=${zone} /></th><th>${t("target")}</th><th>${t("text")}</th><th>${t("state")}</th></tr></thead>
      <tbody>${found.letters.map((letter) => html`<tr key=${letter.number}><td class="time"><${When} ms=${letter.created_ms} zone=${zone} /></td><td>${letter.target}<br /><small>${letter.kind}</small></td>
        <td><span class=${`state ${levelOf(letter.level)}`}></span> ${letter.lines.map((line, at) => html`${at ? html`<br />` : ""}${line}`)}</td><td class="words"><${Fate} letter=${letter} zone=${zone} /></td></tr>`)}</tbody></table></div>`}
  </section>`}`;
}
