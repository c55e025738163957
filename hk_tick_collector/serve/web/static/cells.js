// What a cell of the coverage map means: one symbol in five minutes of one day. Pure, so that a test can hold it against
// `coverage` and `gaps` of the same day.

export const CELL_MS = 300_000;

/** Sessions of a day as cells: `[{start_ms, end_ms}]`, breaks left out. A day without a calendar: from first to last tick. */
export function cellsOf(sessions, first_ms, last_ms) {
  const spans = sessions.length ? sessions : first_ms === null ? [] : [{ start_ms: first_ms, end_ms: last_ms + 1 }];
  const cells = [];
  for (const span of spans) {
    for (let at = Math.floor(span.start_ms / CELL_MS) * CELL_MS; at < span.end_ms; at += CELL_MS) {
      if (!cells.length || cells[cells.length - 1].start_ms < at) cells.push({ start_ms: at, end_ms: at + CELL_MS });
    }
  }
  return cells;
}

/**
 * `missing`: an open gap of ticks that the source had lies in it. `repaired`: only closed ones do. `unproven`: the
 * symbol's day is, or of an open gap nobody knows whether it holds any tick. `pending`: later than what was verified
 * last. `none`: the future, or never subscribed.
 */
export function cellState(cell, symbol, gaps, now_ms) {
  if (cell.start_ms > now_ms || symbol.not_subscribed) return "none";
  const inside = gaps.filter((gap) => gap.start_ts_ms < cell.end_ms && Math.max(gap.end_ts_ms, gap.start_ts_ms) >= cell.start_ms);
  const open = inside.filter((gap) => gap.state === "open");
  if (open.some((gap) => gap.is_loss)) return "missing";
  if (open.length) return "unproven";
  if (symbol.state === "missing" && !gaps.some((gap) => gap.state === "open")) return "missing";
  if (symbol.state === "unproven") return "unproven";
  if (symbol.verified_until_ms === null || cell.start_ms > symbol.verified_until_ms) return "pending";
  return inside.length ? "repaired" : "proven";
}

export const ORDER = { missing: 0, unproven: 1, proven: 2 };
/** Symbols in the order asked for: `worst`, `symbol` or `ticks`. */
export function sorted(symbols, by) {
  const name = (a, b) => (a.symbol < b.symbol ? -1 : 1);
  const orders = {
    symbol: name,
    ticks: (a, b) => b.stored_ticks - a.stored_ticks || name(a, b),
    worst: (a, b) => ORDER[a.state] - ORDER[b.state] || name(a, b),
  };
  return [...symbols].sort(orders[by]);
}
