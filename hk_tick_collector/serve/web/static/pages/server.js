// How late ticks were over the day, who listens and how far behind, who asks this server and how fast it answers.

import { html } from "../vendor/htm-preact.js";
import { getJson, getText, query, Refused } from "../api.js";
import { Line } from "../line.js";
import { Failed, Loading, usePoll, When, Zone } from "../parts.js";
import { clock, count, dayText, seconds, t } from "../text.js";

/** Prometheus text as `[{name, labels, value}]`. */
export function samples(text) {
  const line = /^([a-z_:][\w:]*)(?:\{(.*)\})? (\S+)$/i, label = /(\w+)="((?:[^"\\]|\\.)*)"/g;
  return text.split("\n").flatMap((found) => {
    const parts = found.startsWith("#") ? null : line.exec(found);
    if (!parts) return [];
    return [{ name: parts[1], labels: Object.fromEntries([...(parts[2] ?? "").matchAll(label)].map((pair) => [pair[1], pair[2]])), value: Number(parts[3]) }];
  });
}

/** An estimate of a quantile from a histogram's buckets: the first upper bound at or above it. */
export function quantile(buckets, share) {
  const sorted = [...buckets].sort((a, b) => a.le - b.le);
  const whole = sorted[sorted.length - 1]?.value ?? 0;
  return whole ? sorted.find((bucket) => bucket.value >= share * whole).le : null;
}

const ms = (value) => (value === null || value === undefined ? "–" : seconds(value / 1000));

/** Asked for once a day, since every row of the day is read for it. */
function Latency({ day, market, zone }) {
  const [found, error] = usePoll((signal) => getJson(`/v1/days/${day}/latency?${query({ market })}`, signal), `latency ${day} ${market}`, 0);
  const rows = found?.data ?? [];
  const worst = rows.reduce((top, row) => (!top || row.source_p99_ms > top.source_p99_ms ? row : top), null);
  const lines = [["source_p50_ms", "--link"], ["source_p99_ms", "--warn"], ["file_p99_ms", "--ok"]];
  const words = { source_p50_ms: `${t("source to recorder")} p50`, source_p99_ms: `${t("source to recorder")} p99`, file_p99_ms: `${t("recorder to file")} p99` };
  return html`<section class="card"><div class="row"><h2>${t("Latency over the day")}</h2><span class="push soft">${dayText(day)} <${Zone} zone=${zone} /></span></div>
    <${Loading} answer=${found} error=${error} /><${Failed} error=${error} />
    ${found && !rows.length && html`<p>${t("nothing yet")}</p>`}
    ${rows.length > 0 && html`<div class="legend">${lines.map(([name, colour]) => html`<span><i style=${{ background: `var(${colour})` }}></i>${words[name]}</span>`)}</div>
      <${Line} times=${rows.map((row) => row.start_ms / 1000)} series=${lines.map(([name, colour]) => [words[name], rows.map((row) => row[name]), colour])} zone=${zone} />
      <p class="soft">${t("the slowest five minutes")}: ${clock(worst.start_ms, zone).slice(0, 5)}, p50 ${ms(worst.source_p50_ms)}, p99 ${ms(worst.source_p99_ms)} (${count(worst.ticks)} ${t("ticks")})</p>`}
  </section>`;
}

/** Who listens to the live channel; `null` where this address has none. */
function Readers({ zone }) {
  const [found, error] = usePoll(async (signal) => {
    try { return await getJson("/v1/live/readers", signal); } catch (refused) {
      if (refused instanceof Refused && refused.status === 404) return { data: null };
      throw refused;
    }
  }, "readers", 5000);
  if (found?.data === null) return html`<section class="card"><h2>${t("Live readers")}</h2><p class="soft">${t("The live channel is not at this address; pages ask every second instead.")}</p></section>`;
  return html`<section class="card"><div class="row"><h2>${t("Live readers")}</h2><span class="push soft">${count(found?.data.length ?? null)}</span></div>
    <${Failed} error=${error} />
    ${found && (found.data.length === 0 ? html`<p>${t("None.")}</p>` : html`<div class="scroll" tabindex="0" role="region" aria-label=${t("Live readers")}><table>
      <thead><tr><th>${t("key")}</th><th>${t("since")} <${Zone} zone=${zone} /></th><th class="num">${t("behind")}</th><th class="num">${t("rows")}</th><th>${t("state")}</th></tr></thead>
      <tbody>${found.data.map((reader) => html`<tr><td>${reader.name} <small>${reader.key}</small></td><td class="time"><${When} ms=${reader.since_ms} zone=${zone} /></td><td class="num">${seconds(reader.behind_sec)}</td>
        <td class="num">${count(reader.behind_rows)}</td><td><span class=${`state ${reader.is_live ? "fine" : "warn"}`}>${t(reader.is_live ? "live" : "catching up")}</span></td></tr>`)}</tbody></table></div>`)}
  </section>`;
}

export function Server({ status, root, market, zone }) {
  const [found, error] = usePoll(async (signal) => samples(await getText("/v1/metrics", signal)), "metrics", 5000);
  const routes = new Map();
  for (const { name, labels, value } of found ?? []) {
    if (!labels.route) continue;
    const route = routes.get(labels.route) ?? { asked: 0, failed: 0, buckets: [] };
    routes.set(labels.route, route);
    if (name === "hk_api_requests_total") { route.asked += value; if (labels.status.startsWith("5")) route.failed += value; }
    if (name === "hk_api_request_seconds_bucket") route.buckets.push({ le: labels.le === "+Inf" ? Infinity : Number(labels.le), value });
  }
  const shown = [...routes].sort((a, b) => b[1].asked - a[1].asked);
  const time = (value) => (value === null ? "–" : value === Infinity ? "> 60 s" : `≤ ${seconds(value)}`);
  const day = root?.noun === "snapshot" ? null : root?.day?.trading_day; // the answer is about ticks
  return html`${day && html`<${Latency} key=${day} day=${day} market=${market} zone=${zone} />`}
  <${Readers} zone=${zone} />
  <section class="card"><div class="row"><h1>${t("Server")}</h1>
      <span class="push soft">${t("reading processes")} ${count(status.server.readers)}, ${t("replaced")} ${count(status.server.readers_replaced)}</span></div>
    <${Failed} error=${error} />
    <h2>${t("Requests by address")}</h2>
    <div class="scroll" tabindex="0" role="region" aria-label=${t("Requests by address")}><table>
      <thead><tr><th>${t("address")}</th><th class="num">${t("requests")}</th><th class="num">5xx</th><th class="num">p50</th><th class="num">p99</th></tr></thead>
      <tbody>${shown.map(([route, seen]) => html`<tr><td><code>${route}</code></td><td class="num">${count(seen.asked)}</td><td class="num">${count(seen.failed)}</td><td class="num">${time(quantile(seen.buckets, 0.5))}</td><td class="num">${time(quantile(seen.buckets, 0.99))}</td></tr>`)}</tbody></table></div>
  </section>`;
}
