// Ticks as they are recorded, in a browser or in Node, and the proof that none was missed.
//
// Every message that has a `cursor` has as `prev` the cursor that was told before it. So long as they fit, nothing was
// missed; when they do not, or the line breaks, the page connects again at its last cursor and misses nothing either.

/** `onRow(row, columns)` for each tick; `onState(text)` when something changes. Returns what ends it. */
export function live(url, { symbols = "all", since = "now", ticket = null, onRow, onState = () => {} }) {
  let cursor = since, columns = [], socket, silence, isOver = false;
  const connect = async () => {
    const query = ticket ? `?ticket=${await ticket()}` : "";
    const line = new WebSocket(`${url}/v1/live${query}`, "hk-ticks.v1");
    let told = null; // the last cursor of this connection
    const again = () => { // once for each connection, whichever event comes first
      if (socket !== line) return;
      socket = null; clearTimeout(silence); line.close();
      if (!isOver) setTimeout(connect, 500 + 1500 * Math.random());
    };
    const listen = () => { clearTimeout(silence); silence = setTimeout(again, 15000); };
    socket = line; listen();
    line.onclose = line.onerror = again;
    line.onopen = () => line.send(JSON.stringify({ op: "subscribe", symbols, since: cursor }));
    line.onmessage = ({ data }) => {
      if (socket !== line) return;
      listen();
      const message = JSON.parse(data);
      if (message.type === "error") { isOver = true; onState(`refused: ${message.detail}`); return; }
      if (told !== null && message.prev !== told) { again(); return; } // missed one: again at the last cursor
      if (message.type === "welcome") columns = message.columns;
      for (const row of message.ticks ?? []) onRow(row, columns); // seq is text: it is larger than a number can be
      cursor = told = message.cursor;
      if (message.type !== "ticks") onState(message.type);
    };
  };
  connect();
  return () => { isOver = true; socket?.close(); return cursor; };
}
