// dxFeed's own client in JavaScript against an endpoint: node --experimental-websocket dxlink_program.mjs
// DIRECTORY_OF_THE_PACKAGE WS_URL TOKEN COUNT SYMBOL... Prints each trade of COUNT as a line of JSON.
import { createRequire } from "node:module";

const [directory, url, token, count, ...symbols] = process.argv.slice(2);
const { DXLinkWebSocketClient, DXLinkFeed, FeedContract, FeedDataFormat } =
  createRequire(`${directory}/`)("@dxfeed/dxlink-api");

const client = new DXLinkWebSocketClient();
client.setAuthToken(token);
client.connect(url);
const feed = new DXLinkFeed(client, FeedContract.STREAM);
feed.configure({
  acceptAggregationPeriod: 0,
  acceptDataFormat: FeedDataFormat.COMPACT,
  acceptEventFields: { TimeAndSale: ["eventType", "eventSymbol", "time", "price", "size", "type"] },
});
let left = Number(count);
feed.addEventListener((events) => {
  for (const event of events) {
    console.log(JSON.stringify(event));
    left -= 1;
    if (left === 0) process.exit(0);
  }
});
feed.addSubscriptions(symbols.map((symbol) => ({ type: "TimeAndSale", symbol })));
