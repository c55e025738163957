// Which days are recorded, and how good is each?

import { html, useState } from "../vendor/htm-preact.js";
import { apiUrl, getJson, query } from "../api.js";
import { Failed, Loading, Share, usePoll } from "../parts.js";
import { count, dayText, prefs, said, t } from "../text.js";

const pad = (value) => String(value).padStart(2, "0");
const monthOf = (day) => `${day.slice(0, 4)}-${day.slice(4, 6)}`;
const shift = (month, by) => {
  const [year, number] = month.split("-").map(Number);
  const moved = new Date(Date.UTC(year, number - 1 + by, 1));
  return `${moved.getUTCFullYear()}-${pad(moved.getUTCMonth() + 1)}`;
};

function Month({ month, byDay, chosen, onPick }) {
  const [year, number] = month.split("-").map(Number);
  const before = (new Date(Date.UTC(year, number - 1, 1)).getUTCDay() + 6) % 7;
  const length = new Date(Date.UTC(year, number, 0)).getUTCDate();
  const names = prefs.language === "zh" ? [..."一二三四五六日"] : ["Mo", "Tu", "We", "Th", "Fr", "Sa", "Su"];
  return html`<div class="month">
    ${names.map((name) => html`<span>${name}</span>`)}
    ${Array.from({ length: before }, () => html`<span></span>`)}
    ${Array.from({ length }, (_, at) => {
      const day = `${month.replace("-", "")}${pad(at + 1)}`, line = byDay.get(day);
      const grade = line?.grade ?? (line ? (line.state === "damaged" ? "✕" : "–") : "");
      return html`<button key=${day} disabled=${!line} aria-pressed=${day === chosen ? "true" : "false"} onClick=${() => onPick(day)}
        aria-label=${`${dayText(day)} ${line ? `${t("grade")} ${grade}, ${count(line.rows)} ${t("ticks")}` : t("no day file")}`}>
        <small>${at + 1}</small><b class=${`grade-${grade}`}>${grade || " "}</b></button>`;
    })}</div>`;
}

function DayCard({ line, market }) {
  const day = line.day;
  const [found, error] = usePoll((signal) => getJson(`/v1/days/${day}/certificate?${query({ market })}`, signal), `${day} ${market}`, line.is_archived ? 0 : 15_000);
  return html`<section class="card">
    <div class="row"><h2>${dayText(day)}</h2><b class=${`grade-${line.grade}`}>${t("grade")} ${line.grade ?? "–"}</b>
      <span class="soft">${[line.has_day_file && t("day file"), line.is_archived && t("archived"), line.state === "damaged" && t("damaged")].filter(Boolean).join(", ")}</span></div>
    <${Loading} answer=${found} error=${error} /><${Failed} error=${error} />
    ${found && html`<p>${found.sentence}</p>
      <${Share} counts=${{ proven: found.proven_symbols ?? 0, missing: found.missing_symbols ?? 0, unproven: found.unproven_symbols ?? 0 }} />
      ${Object.entries(found.reasons ?? {}).length > 0 && html`<ul>${Object.entries(found.reasons).map(([reason, symbols]) => html`<li>${count(symbols)}: ${said(reason)}</li>`)}</ul>`}
      ${[...(found.problems ?? []), ...(found.notes ?? [])].length > 0 && html`<details><summary>${t("Notes")}</summary><ul>${[...found.problems, ...found.notes].map((text) => html`<li>${text}</li>`)}</ul></details>`}`}
    <div class="row">
      <a href=${`#/coverage?${query({ day, market })}`}>${t("Coverage")}</a>
      <a href=${apiUrl(`/v1/days/${day}/certificate?${query({ market, format: "html" })}`)} target="_blank" rel="noopener">${t("certificate")}</a>
      <a href=${`#/data?${query({ day, market })}`}>${t("Data")}</a>
      ${line.is_archived && html`<a href=${apiUrl(`/v1/days/${day}/file?${query({ market })}`)} download>Parquet</a>`}
    </div>
  </section>`;
}

export function Days({ market, of }) {
  const [answer, error] = usePoll((signal) => getJson(`/v1/days?${query({ market, limit: 4000 })}`, signal), `days ${market}`, 30_000);
  const [chosen, setChosen] = useState(of || null);
  const [month, setMonth] = useState(of ? monthOf(of) : null);
  const lines = answer?.data ?? [];
  const byDay = new Map(lines.map((line) => [line.day, line]));
  const newest = lines.reduce((last, line) => (line.day > last ? line.day : last), "");
  const shown = month ?? (newest ? monthOf(newest) : null);
  const day = chosen ?? newest;
  return html`<div class="days"><section class="card">
    <div class="row"><h1>${t("Days")}</h1>${shown && html`
      <button onClick=${() => setMonth(shift(shown, -1))} aria-label=${t("previous month")}>‹</button><b class="num">${shown}</b>
      <button onClick=${() => setMonth(shift(shown, 1))} aria-label=${t("next month")}>›</button>`}
      ${answer && html`<span class="push soft">${count(lines.length)} ${t(lines.length === 1 ? "day" : "days")}</span>`}</div>
    <${Loading} answer=${answer} error=${error} />
    <${Failed} error=${error} />
    ${answer && !lines.length && html`<p>${t("nothing yet")}</p>`}
    ${shown && html`<${Month} month=${shown} byDay=${byDay} chosen=${day} onPick=${setChosen} />`}
  </section>
  ${byDay.has(day) && html`<${DayCard} key=${day} line=${byDay.get(day)} market=${market} />`}</div>`;
}
