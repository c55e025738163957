// Where a recorder keeps snapshots: the newest of each series, and its profile by strike.

import { html, useRef } from "../vendor/htm-preact.js";
import { getJson, query } from "../api.js";
import { Failed, Loading, State, Time, usePoll, Zone } from "../parts.js";
import { count, price, said, t } from "../text.js";

const LOOK_MS = 5000; // how often it asks, and how far back a series' newest one may lie
const STRIKES = 40;

const shown = (value) => (value === null ? "–" : price(value));
const name = (row) => `${row.symbol}/${row.package}/${row.category}`;

/** By volume, at the strikes around the price: a bar to the right is positive. */
function Profile({ strikes, spot }) {
  const near = [...strikes].sort((a, b) => Math.abs(a[0] - spot) - Math.abs(b[0] - spot)).slice(0, STRIKES).sort((a, b) => b[0] - a[0]);
  const top = Math.max(...near.map((row) => Math.abs(row[1])), 1e-9);
  return html`<table><thead><tr><th class="num">${t("strike")}</th><th class="num">${t("by volume")}</th><th></th></tr></thead>
    <tbody>${near.map((row) => html`<tr key=${row[0]}><td class="num">${price(row[0])}</td><td class="num">${price(row[1])}</td>
      <td><svg viewBox="-50 0 100 8" width="160" height="8" aria-hidden="true"><rect x=${Math.min(0, (50 * row[1]) / top)} width=${Math.abs((50 * row[1]) / top)} height="8" fill=${`var(--cell-${row[1] < 0 ? "missing" : "proven"})`} /></svg></td></tr>`)}</tbody></table>`;
}

export function Snapshots({ root, zone, of }) {
  const newest = useRef(0);
  newest.current = root?.day?.newest_ts_ms ?? 0;
  const [found, error] = usePoll((signal) => getJson(`/v1/snapshots?${query({ symbols: "all", start: new Date(newest.current - LOOK_MS).toISOString() })}`, signal), "", LOOK_MS);
  const last = Object.values(Object.fromEntries((found?.data ?? []).map((row) => [name(row), row])));
  const chosen = last.find((row) => name(row) === of) ?? last[0];
  const strikes = chosen ? JSON.parse(chosen.body).strikes : null;
  const unproven = Object.fromEntries((found?.coverage.not_proven ?? []).map((row) => [row.symbol, row]));
  return html`<section class="card"><h1>${t("Snapshots")}</h1>
    <${Failed} error=${error} /><${Loading} answer=${found} error=${error} />
    <div class="scroll" tabindex="0" role="region" aria-label=${t("Snapshots")}><table>
      <thead><tr><th>${t("series")}</th><th>${t("time")} <${Zone} zone=${zone} /></th><th class="num">spot</th><th class="num">zero gamma</th><th class="num">${t("missing")}</th><th>${t("state")}</th></tr></thead>
      <tbody>${last.map((row) => { const { missing_ticks = 0, state = "proven", reason = "" } = unproven[row.symbol] ?? {}; return html`<tr key=${name(row)}><td><a href=${`#/snapshots/${encodeURIComponent(name(row))}`}>${name(row)}</a></td>
        <td class="time"><${Time} ms=${row.ts_ms} zone=${zone} /></td><td class="num">${shown(row.spot)}</td><td class="num">${shown(row.zero_gamma)}</td>
        <td class="num">${count(missing_ticks)}</td><td title=${said(reason)}><${State} state=${state} /></td></tr>`; })}</tbody></table></div></section>
  ${strikes?.length > 0 && html`<section class="card"><h2>${name(chosen)}</h2><${Profile} strikes=${strikes} spot=${chosen.spot ?? strikes[0][0]} /></section>`}`;
}
