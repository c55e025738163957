// The newest order book of a symbol, where books are recorded.

import { html } from "../vendor/htm-preact.js";
import { getJson, query } from "../api.js";
import { Time, usePoll, Zone } from "../parts.js";
import { count, price, t } from "../text.js";

const LEVELS = 10;

/** Nothing where the symbol has no book: few are recorded. */
export function Ladder({ symbol, zone }) {
  const [found] = usePoll((signal) => getJson(`/v1/books/latest?${query({ symbols: symbol, levels: LEVELS })}`, signal), `book ${symbol}`, 1000);
  const book = found?.data?.[0];
  if (!book) return null;
  const rows = [...Array(Math.max(book.bids.length, book.asks.length)).keys()].map((at) => [book.bids[at], book.asks[at]]);
  return html`<section class="card ladder"><h2>${t("Order book")}</h2>
    <p class="row soft"><${Time} ms=${book.recv_ts_us / 1000} zone=${zone} millis /> <${Zone} zone=${zone} />${!book.watched && html`<span class="state unproven">${t("not watched now")}</span>`}</p>
    <div class="scroll" tabindex="0" role="region" aria-label=${t("Order book")}><table>
      <thead><tr><th class="num">${t("orders")}</th><th class="num">${t("shares")}</th><th class="num">${t("bid")}</th><th class="num">${t("ask")}</th><th class="num">${t("shares")}</th><th class="num">${t("orders")}</th></tr></thead>
      <tbody>${rows.map(([bid, ask], at) => html`<tr key=${at}><td class="num soft">${bid ? count(bid.orders) : ""}</td><td class="num">${bid ? count(bid.volume) : ""}</td><td class="num BUY">${bid ? price(bid.price) : ""}</td>
        <td class="num SELL">${ask ? price(ask.price) : ""}</td><td class="num">${ask ? count(ask.volume) : ""}</td><td class="num soft">${ask ? count(ask.orders) : ""}</td></tr>`)}</tbody></table></div></section>`;
}
