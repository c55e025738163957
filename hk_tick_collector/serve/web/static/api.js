// What the page asks the server. Addresses are relative to the page, so a reverse proxy may show it under any path.

const BASE = new URL("..", location.href).href.replace(/\/$/, "");
export const apiUrl = (path) => `${BASE}${path}`;

/** An answer that is an error: `status`, `detail`, `hint` of the problem document. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `status ${status}`);
    this.status = status;
    this.hint = problem.hint || "";
    this.slug = String(problem.type || "").split("/").pop();
  }
}

async function asked(path, options) {
  const response = await fetch(apiUrl(path), { credentials: "same-origin", ...options });
  if (response.ok) return response;
  let problem = {};
  try { problem = await response.json(); } catch { /* a proxy's own page */ }
  throw new Refused(response.status, problem);
}

export const getJson = async (path, signal) => (await asked(path, { signal })).json();
export const getText = async (path, signal) => (await asked(path, { signal })).text();
/** The rows of one SELECT, once. */
export const askSql = async (body, signal) => (await asked("/v1/sql", {
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal,
})).json();
/** With a key of its own: the session's cookie reads, and changes nothing. */
export const mute = (code, for_sec, key) => asked("/v1/alerts/mutes", {
  method: "POST", headers: { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) }, body: JSON.stringify({ code, for_sec }),
});
/** As `mute`; what was asked for, and when. */
export const restart = async (source, key) => (await asked("/v1/sources/restart", {
  method: "POST", headers: { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) }, body: JSON.stringify({ source }),
})).json();
export const logIn = (key) =>
  asked("/v1/session", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ key }) });
export const logOut = () => asked("/v1/session", { method: "DELETE" });

export const query = (parts) =>
  new URLSearchParams(Object.entries(parts).filter(([, value]) => value !== null && value !== undefined && value !== "")).toString();

const ROWS = { tick: "ticks", book: "books" }; // of a message, by the kind of record

/**
 * Rows of one symbol as they are stored: `onRows(rows)` with objects, `onState("live" | "reconnecting" | "none")`.
 * `options`: of the subscription, such as `{ kind: "book", depth: 10 }`. "none": this server has no live channel at this
 * address, so the caller asks every second instead. Returns what ends it.
 */
export function follow(symbol, onRows, onState, options = { kind: "tick" }) {
  let cursor = "now", columns = [], socket = null, timer = 0, isOver = false;
  const later = () => {
    if (isOver) return;
    socket = null;
    onState("reconnecting");
    clearTimeout(timer);
    timer = setTimeout(connect, 500 + 1500 * Math.random());
  };
  const connect = async () => {
    let ticket;
    try {
      ticket = (await (await asked("/v1/live/ticket", { method: "POST" })).json()).ticket;
    } catch (error) {
      if (error instanceof Refused && [404, 405, 403].includes(error.status)) { if (!isOver) onState("none"); return; }
      later();
      return;
    }
    if (isOver) return;
    const line = new WebSocket(`${BASE.replace(/^http/, "ws")}/v1/live?ticket=${encodeURIComponent(ticket)}`, "hk-ticks.v1");
    let told = null;
    socket = line;
    const lost = () => { if (socket === line) { clearTimeout(timer); line.close(); later(); } };
    const listen = () => { clearTimeout(timer); timer = setTimeout(lost, 15000); };
    listen();
    line.onclose = line.onerror = lost;
    line.onopen = () => line.send(JSON.stringify({ op: "subscribe", symbols: [symbol], since: cursor, on_slow: "conflate", ...options }));
    line.onmessage = ({ data }) => {
      if (socket !== line) return;
      listen();
      const message = JSON.parse(data);
      if (message.type === "error") { cursor = "now"; lost(); return; }
      if (told !== null && message.prev !== undefined && message.prev !== told) { lost(); return; }
      if (message.type === "welcome") { columns = message.columns; onState("live"); }
      if (message.cursor) cursor = told = message.cursor;
      const rows = message[ROWS[options.kind]];
      if (rows?.length) onRows(rows.map((row) => Object.fromEntries(columns.map((name, at) => [name, row[at]]))));
    };
  };
  connect();
  return () => {
    const line = socket;
    isOver = true; socket = null;
    clearTimeout(timer);
    // One that is closed before it is open is a complaint in the browser's console.
    if (line?.readyState === WebSocket.CONNECTING) line.onopen = () => line.close(); else line?.close();
  };
}
