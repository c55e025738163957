// The frame: which page is shown, in which language and colours, of which market; and the key, when one is wanted.

import { html, render, useEffect, useState } from "./vendor/htm-preact.js";
import { getJson, logIn, logOut, query, Refused } from "./api.js";
import { Failed, usePoll } from "./parts.js";
import { clock, iso, keep, prefs, t, zoneName } from "./text.js";
import { Alerts } from "./pages/alerts.js";
import { Coverage } from "./pages/coverage.js";
import { Data } from "./pages/data.js";
import { Days } from "./pages/days.js";
import { Overview } from "./pages/overview.js";
import { Server } from "./pages/server.js";
import { Snapshots } from "./pages/snapshots.js";
import { Sources } from "./pages/sources.js";
import { Sql } from "./pages/sql.js";
import { Symbol } from "./pages/symbol.js";

const PAGES = [["", "Overview", Overview], ["coverage", "Coverage", Coverage], ["symbol", "Symbol", Symbol],
  ["days", "Days", Days], ["snapshots", "Snapshots", Snapshots], ["data", "Data", Data], ["sql", "SQL", Sql],
  ["alerts", "Alerts", Alerts], ["sources", "Sources", Sources], ["server", "Server", Server]];

/** `#symbol/HK.00700?day=20261127` as `{name, of, given}`. */
function place() {
  const [path, rest] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, of] = path.split("/").map(decodeURIComponent);
  return { name: name || "", of: of || "", given: Object.fromEntries(new URLSearchParams(rest || "")) };
}
export const go = (name, of = "", given = {}) => {
  const rest = query(given);
  location.hash = `/${name}${of ? `/${encodeURIComponent(of)}` : ""}${rest ? `?${rest}` : ""}`;
};

function useNow() {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return now;
}

function Login({ onDone, wasIn }) {
  const [error, setError] = useState(null);
  const send = async (event) => {
    event.preventDefault();
    try { await logIn(new FormData(event.target).get("key").trim()); onDone(); } catch (refused) { setError(refused); }
  };
  return html`<main id="main"><form class="card login" onSubmit=${send}>
    <h1>${t("This server wants a key.")}</h1>
    ${wasIn && html`<p class="note">${t("The key that was here has expired or was revoked.")}</p>`}
    <label>${t("key")}<input name="key" type="password" autocomplete="off" required maxlength="200" placeholder="hktk_…" /></label>
    <small>${t("as an operator made it: hk-tickctl keys add NAME")}</small>
    <${Failed} error=${error} />
    <button class="main">${t("Log in")}</button>
  </form></main>`;
}

function Tools({ session, onChange, onOut }) {
  const turn = (name, value) => { prefs[name] = value; keep(`hk-${name}`, value); onChange(); };
  return html`<div class="tools">
    <button onClick=${() => turn("language", prefs.language === "en" ? "zh" : "en")}
      lang=${prefs.language === "en" ? "zh-Hant" : "en"}>${prefs.language === "en" ? "中文" : "English"}</button>
    <button onClick=${() => turn("theme", prefs.theme === "dark" ? "light" : "dark")}>
      ${t(prefs.theme === "dark" ? "light" : "dark")}</button>
    ${session && session.key !== "anonymous" && html`<button onClick=${onOut} title=${session.name}>${t("Log out")}</button>`}
  </div>`;
}

function MarketClock({ zone, now, phase }) {
  return html`<span class="clock" title=${iso(now)}>${phase ? `${t(phase.replaceAll("_", " "))} · ` : ""}${clock(now, zone)} ${zoneName(zone)}</span>`;
}

function Frame({ onOut, onRefused, session }) {
  const [, again] = useState(0);
  const [at, setAt] = useState(place());
  const now = useNow();
  useEffect(() => {
    const moved = () => setAt(place());
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  const [status, error] = usePoll((signal) => getJson("/v1/status", signal), "status", 2000);
  useEffect(() => { if (error instanceof Refused && error.status === 401) onRefused(); }, [error]);
  const markets = status ? status.roots.map((root) => root.market) : [];
  const market = markets.includes(at.given.market) ? at.given.market : markets[0] ?? null;
  const [calendar] = usePoll((signal) => getJson(`/v1/calendar?${query({ market })}`, signal), `calendar ${market}`, 600_000);
  useEffect(() => {
    document.documentElement.dataset.theme = prefs.theme;
    document.documentElement.lang = prefs.language === "zh" ? "zh-Hant-HK" : "en";
  });
  const zone = calendar ? calendar.zone : "UTC";
  const root = status ? status.roots.find((found) => found.market === market) : null;
  const [, title, Page] = PAGES.find(([name]) => name === at.name) ?? PAGES[0];
  // Each kind of record has pages of its own; those of the other one have nothing to show.
  const others = root?.noun === "snapshot" ? ["coverage", "symbol", "days", "data", "sql"] : ["snapshots"];
  const link = (name) => `#/${name}${markets.length > 1 ? `?market=${market}` : ""}`;
  useEffect(() => { document.title = `${t(title)} – hk-tick-collector`; });
  return html`
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.getElementById("main").focus(); }}>${t("Skip to the content")}</a>
    <header class="top"><div class="bar">
      <a class="brand" href=${link("")}><i class=${`dot alive ${error ? "alert" : status?.verdict === "fine" ? "fine" : status?.verdict === "problem" ? "alert" : "attention"}`}></i>hk-tick-collector</a>
      ${markets.length > 1 && html`<label class="row">${t("market")} <select value=${market}
        onChange=${(event) => go(at.name, "", { market: event.target.value })}>
        ${markets.map((name) => html`<option>${name}</option>`)}</select></label>`}
      <${MarketClock} zone=${zone} now=${now} phase=${root?.phase} />
      <${Tools} session=${session} onChange=${() => again((n) => n + 1)} onOut=${onOut} />
      <nav aria-label="pages">${PAGES.filter(([name]) => !others.includes(name)).map(([name, word]) =>
        html`<a href=${link(name)} aria-current=${name === at.name ? "page" : null}>${t(word)}</a>`)}</nav>
    </div></header>
    <main id="main" tabindex="-1">
      ${error && !(error instanceof Refused) && html`<p class="note bad" role="alert">${t("The server does not answer; trying again.")}</p>`}
      ${error instanceof Refused && html`<${Failed} error=${error} />`}
      ${calendar && status ? html`<${Page} key=${`${at.name} ${market}`} status=${status} root=${root} market=${market}
        calendar=${calendar} zone=${zone} now=${now} of=${at.of} given=${at.given} />` : html`<p class="loading">…</p>`}
    </main>
    <footer>${t("Charts")}: <a href="https://www.tradingview.com/" rel="noreferrer">TradingView Lightweight Charts™</a> · ${" "}<a href="../docs">API</a></footer>`;
}

function App() {
  const [session, setSession] = useState(undefined);
  const [wasIn, setWasIn] = useState(false);
  const look = () => getJson("/v1/session").then(setSession, (error) =>
    error instanceof Refused && error.status === 401 ? setSession(null) : setTimeout(look, 2000));
  useEffect(() => { look(); }, []);
  useEffect(() => { document.documentElement.dataset.theme = prefs.theme; });
  if (session === undefined) return html`<p class="loading">…</p>`;
  if (session === null) return html`<${Login} onDone=${look} wasIn=${wasIn} />`;
  const out = (isRefused) => logOut().catch(() => {}).finally(() => { setWasIn(isRefused); setSession(null); });
  return html`<${Frame} session=${session} onOut=${() => out(false)} onRefused=${() => out(true)} />`;
}

const holder = document.getElementById("app");
holder.textContent = "";
render(html`<${App} />`, holder);
