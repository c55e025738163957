// The newest order book of a symbol, where books are recorded.

import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { follow, getJson, query } from "../api.js";
import { Time, usePoll, Zone } from "../parts.js";
import { count, price, t } from "../text.js";

const LEVELS = 10, LOOK_MS = 1000, SELDOM_MS = 15_000, SHOWN_EACH_MS = 100;

const levels = (side) => side.map(([price, volume, orders]) => ({ price, volume, orders }));

/** The book after these pushes. A break (`bids` null) leaves the last one, which nobody watches then. */
function after(book, pushes) {
  const newest = pushes.findLast((push) => push.bids !== null), last = pushes[pushes.length - 1];
  const known = newest ? { ...newest, bids: levels(newest.bids), asks: levels(newest.asks) } : book;
  return known && { ...known, watched: last.bids !== null, told_at_us: last.recv_ts_us };
}

/** Whether the live channel knows more than the last answer: of one moment, what it says of a break. */
const isNewer = (pushed, asked) => pushed.told_at_us > asked.recv_ts_us || (pushed.told_at_us === asked.recv_ts_us && !pushed.watched);

/** The newest book: each push from the live channel when there is one, else asked for every second. */
function useBook(symbol) {
  const [state, setState] = useState("reconnecting");
  const [pushed, setPushed] = useState(null);
  const [answer] = usePoll((signal) => getJson(`/v1/books/latest?${query({ symbols: symbol, levels: LEVELS })}`, signal), `book ${symbol}`, state === "live" ? SELDOM_MS : LOOK_MS);
  const asked = answer?.data?.[0] ?? null, isRecorded = asked !== null;
  useEffect(() => {
    if (!isRecorded) return undefined;
    let newest = null;
    const forget = () => { newest = null; setPushed(null); };
    const flush = setInterval(() => setPushed(newest), SHOWN_EACH_MS);
    const end = follow(symbol, (pushes) => { newest = after(newest ?? asked, pushes); }, (now) => { setState(now); if (now !== "live") forget(); }, { kind: "book", depth: LEVELS });
    return () => { clearInterval(flush); end(); forget(); setState("reconnecting"); };
  }, [symbol, isRecorded]);
  return pushed && asked && !isNewer(pushed, asked) ? asked : pushed ?? asked;
}

/** Nothing where the symbol has no book: few are recorded. */
export function Ladder({ symbol, zone }) {
  const book = useBook(symbol);
  if (!book) return null;
  const rows = [...Array(Math.max(book.bids.length, book.asks.length)).keys()].map((at) => [book.bids[at], book.asks[at]]);
  return html`<section class="card ladder"><h2>${t("Order book")}</h2>
    <p class="row soft"><${Time} ms=${book.recv_ts_us / 1000} zone=${zone} millis /> <${Zone} zone=${zone} />${!book.watched && html`<span class="state unproven">${t("not watched now")}</span>`}</p>
    <div class="scroll" tabindex="0" role="region" aria-label=${t("Order book")}><table>
      <thead><tr><th class="num">${t("orders")}</th><th class="num">${t("shares")}</th><th class="num">${t("bid")}</th><th class="num">${t("ask")}</th><th class="num">${t("shares")}</th><th class="num">${t("orders")}</th></tr></thead>
      <tbody>${rows.map(([bid, ask], at) => html`<tr key=${at}><td class="num soft">${bid ? count(bid.orders) : ""}</td><td class="num">${bid ? count(bid.volume) : ""}</td><td class="num BUY">${bid ? price(bid.price) : ""}</td>
        <td class="num SELL">${ask ? price(ask.price) : ""}</td><td class="num">${ask ? count(ask.volume) : ""}</td><td class="num soft">${ask ? count(ask.orders) : ""}</td></tr>`)}</tbody></table></div></section>`;
}
