// Who asks this server, and how fast it answers.

import { html } from "../vendor/htm-preact.js";
import { getText } from "../api.js";
import { Failed, usePoll } from "../parts.js";
import { count, seconds, t } from "../text.js";

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

export function Server({ status }) {
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
  return html`<section class="card"><div class="row"><h1>${t("Server")}</h1>
      <span class="push soft">${t("reading processes")} ${count(status.server.readers)}, ${t("replaced")} ${count(status.server.readers_replaced)}</span></div>
    <${Failed} error=${error} />
    <h2>${t("Requests by address")}</h2>
    <div class="scroll" tabindex="0" role="region" aria-label=${t("Requests by address")}><table>
      <thead><tr><th>${t("address")}</th><th class="num">${t("requests")}</th><th class="num">5xx</th><th class="num">p50</th><th class="num">p99</th></tr></thead>
      <tbody>${shown.map(([route, seen]) => html`<tr><td><code>${route}</code></td><td class="num">${count(seen.asked)}</td><td class="num">${count(seen.failed)}</td><td class="num">${time(quantile(seen.buckets, 0.5))}</td><td class="num">${time(quantile(seen.buckets, 0.99))}</td></tr>`)}</tbody></table></div>
  </section>`;
}
