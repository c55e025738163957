// The frame: which page is shown, in which language and colours, of which market; and the key, when one is wanted.

import { html, render, useEffect, useState } from "./vendor/htm-preact.js";
import { getJson, logIn, logOut, query, Refused } from "./api.js";
import { Failed, usePoll } from "./parts.js";
import { clock, iso, keep, prefs, t, zoneName } from "./text.js";

const AGAIN_MS = 2000, OTHERS_MS = 1000;
/** What loads a page: its code comes when it is first wanted, so that the first page waits for no library of charts. */
function later(load, name) {
  let page = null;
  return () => (page ??= load().then((module) => module[name], (error) => { page = null; throw error; }));
}
const Alerts = later(() => import("./pages/alerts.js"), "Alerts");
const Coverage = later(() => import("./pages/coverage.js"), "Coverage");
const Data = later(() => import("./pages/data.js"), "Data");
const Days = later(() => import("./pages/days.js"), "Days");
const Overview = later(() => import("./pages/overview.js"), "Overview");
const Server = later(() => import("./pages/server.js"), "Server");
const Snapshots = later(() => import("./pages/snapshots.js"), "Snapshots");
const Sources = later(() => import("./pages/sources.js"), "Sources");
const Sql = later(() => import("./pages/sql.js"), "Sql");
const Symbol = later(() => import("./pages/symbol.js"), "Symbol");

const OF_TICKS = ["coverage", "symbol", "days", "data", "sql"];
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

/** The page of a loader, or null until it is there; a server that is away is asked again. */
function usePage(load) {
  const [found, setFound] = useState({ load: null, Page: null });
  useEffect(() => {
    let isOver = false, timer = 0;
    const look = () => load().then((Page) => { if (!isOver) setFound({ load, Page }); },
      () => { if (!isOver) timer = setTimeout(look, AGAIN_MS); });
    look();
    return () => { isOver = true; clearTimeout(timer); };
  }, [load]);
  return found.load === load ? found.Page : null;
}

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
  const markets = status ? [...new Set(status.roots.map((root) => root.market))] : [];
  const wanted = markets.includes(at.given.market) ? at.given.market : null; // null: the server's first market
  const [calendar] = usePoll((signal) => getJson(`/v1/calendar?${query({ market: wanted })}`, signal), `calendar ${wanted}`, 600_000);
  const market = wanted ?? calendar?.market ?? markets[0] ?? null;
  useEffect(() => {
    document.documentElement.dataset.theme = prefs.theme;
    document.documentElement.lang = prefs.language === "zh" ? "zh-Hant-HK" : "en";
  });
  const zone = calendar ? calendar.zone : "UTC";
  const [page, title, load] = PAGES.find(([name]) => name === at.name) ?? PAGES[0];
  // Each kind of record has pages of its own; those of a kind that no data root of the market keeps have nothing to show.
  const roots = status ? status.roots.filter((found) => found.market === market) : [];
  const ofSnapshots = roots.filter((found) => found.noun === "snapshot"), ofTicks = roots.filter((found) => found.noun !== "snapshot");
  const root = (page === "snapshots" ? ofSnapshots : ofTicks)[0] ?? roots[0] ?? null;
  const others = [...(ofSnapshots.length ? [] : ["snapshots"]), ...(ofTicks.length || !roots.length ? [] : OF_TICKS)];
  const Page = usePage(load);
  const isShown = Boolean(Page && calendar && status);
  useEffect(() => { // the other pages are there when somebody goes to one, even should the server be away then
    const timer = isShown ? setTimeout(() => PAGES.forEach(([, , other]) => other().catch(() => {})), OTHERS_MS) : 0;
    return () => clearTimeout(timer);
  }, [isShown]);
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
      ${isShown ? html`<${Page} key=${`${at.name} ${market}`} status=${status} root=${root} roots=${roots} market=${market}
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
