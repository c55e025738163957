// Small parts that several pages use.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { clock, count, dateClock, dayText, iso, said, t, zoneName } from "./text.js";

/** A time of day in the market's zone; UTC on hover. */
export const Time = ({ ms, zone, millis }) =>
  html`<time title=${iso(ms)} datetime=${iso(ms)}>${clock(ms, zone, millis)}</time>`;

/** With its date, where it may be another day. */
export const When = ({ ms, zone }) => (ms ? html`<time class="num" title=${iso(ms)} datetime=${iso(ms)}>${dateClock(ms, zone)}</time>` : "–");

export const State = ({ state }) => html`<span class=${`state ${state}`}>${t(state.replace("_", " "))}</span>`;

export function Share({ counts }) {
  const whole = counts.proven + counts.missing + counts.unproven;
  const width = (part) => ({ width: `${whole ? (100 * part) / whole : 0}%` });
  const told = ["proven", "missing", "unproven"].map((state) => `${count(counts[state])} ${t(state)}`).join(", ");
  return html`<div>
    <div class="share" role="img" aria-label=${told}>
      ${["proven", "unproven", "missing"].map((state) => html`<i class=${state} style=${width(counts[state])}></i>`)}
    </div>
    <div class="row soft">${["proven", "missing", "unproven"].map((state) =>
      html`<span><${State} state=${state} /> ${count(counts[state])}</span>`)}</div>
  </div>`;
}

export function Spark({ values, label }) {
  if (values.length < 2) return html`<svg aria-hidden="true"></svg>`;
  const top = Math.max(...values, 1e-9);
  const points = values.map((value, at) => `${(100 * at) / (values.length - 1)},${27 - (25 * value) / top}`).join(" ");
  return html`<svg viewBox="0 0 100 28" preserveAspectRatio="none" role="img" aria-label=${label}>
    <polyline points=${points} fill="none" stroke="var(--link)" stroke-width="1.5" vector-effect="non-scaling-stroke" />
  </svg>`;
}

/** While the first answer has not come: never a claim such as "0 days". */
export const Loading = ({ answer, error }) => !answer && !error && html`<p class="loading" role="status">…</p>`;

export const Failed = ({ error }) =>
  error && html`<p class="note bad" role="alert">${error.message}${error.hint ? html`<br /><small>${error.hint}</small>` : ""}</p>`;

/**
 * Asks again and again: `[answer, error, ask]`. `every_ms` 0: once for each `key`. An answer that comes late, for a question
 * nobody asks any more, is dropped; while it cannot ask, the last answer stays.
 */
export function usePoll(ask, key, every_ms) {
  const [found, setFound] = useState({ key: null, answer: null, error: null });
  const run = useRef(() => {});
  useEffect(() => {
    let isOver = false, timer = 0, abort = null;
    const look = async () => {
      abort = new AbortController();
      try {
        const answer = await ask(abort.signal);
        if (!isOver) setFound({ key, answer, error: null });
      } catch (error) {
        if (!isOver && error.name !== "AbortError") setFound((old) => ({ key, answer: old.key === key ? old.answer : null, error }));
      }
      if (!isOver && every_ms) timer = setTimeout(look, document.hidden ? Math.max(every_ms, 15_000) : every_ms);
    };
    run.current = () => { clearTimeout(timer); look(); };
    const shown = () => { if (!document.hidden && every_ms) run.current(); };
    document.addEventListener("visibilitychange", shown);
    look();
    return () => { isOver = true; clearTimeout(timer); abort?.abort(); document.removeEventListener("visibilitychange", shown); };
  }, [key, every_ms]);
  const answer = found.key === key ? found.answer : null;
  return [answer, found.key === key ? found.error : null, () => run.current()];
}

const NAMED = 8;
/** What of an answer is not proven: symbols by their reason, the first of them named. */
export function NotProven({ coverage }) {
  if (!coverage?.state || coverage.state === "proven") return null;
  const byReason = new Map();
  for (const found of coverage.not_proven ?? []) {
    const key = `${dayText(found.day)} ${said(found.reason ?? "")}`;
    byReason.set(key, [...(byReason.get(key) ?? []), found.symbol]);
  }
  return html`<div class="note bad"><${State} state=${coverage.state} />${[...byReason].slice(0, NAMED).map(([reason, symbols]) =>
    html`<p>${symbols.slice(0, NAMED).join(", ")}${symbols.length > NAMED ? ` ${t("and more")} (${count(symbols.length)})` : ""}: ${reason}</p>`)}</div>`;
}

export const Zone = ({ zone }) => html`<small title=${zone}>${zoneName(zone)}</small>`;
