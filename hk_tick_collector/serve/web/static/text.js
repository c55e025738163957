// Words in both languages, and how numbers and times are written. One rule: market time on the page, UTC on hover.

import { complaintInChinese } from "./complaints.js";
import { inChinese } from "./chinese.js"; // of the pages of days, which says the same

const WORDS = {
  en: {},
  zh: {
    "Overview": "概覽", "Coverage": "完整程度", "Symbol": "股票", "Days": "交易日", "Data": "資料", "Server": "伺服器",
    "All is well": "一切正常", "Something is wrong": "出現問題", "Nothing is recorded here yet": "尚未有任何記錄",
    "It records, but needs a look": "正在記錄，請留意以下事項",
    "proven": "已證明", "missing": "缺失", "unproven": "未證明", "not recorded": "沒有記錄", "repaired": "已修復",
    "not proven yet": "尚未證明", "outside of trading": "非交易時段", "not proven": "未證明", "Not proven": "未證明",
    "rows a second": "每秒筆數", "newest tick": "最新一筆", "newest": "最新", "delay to the file": "寫入延遲", "stored within (p99)": "存入需時（p99）", "free": "可用",
    "waiting": "等候中", "symbols subscribed": "已訂閱", "disk lasts": "磁碟夠用",
    "days": "日", "day": "日", "refused": "被拒", "recorder": "錄製程式", "since": "自",
    "not running": "沒有運行", "of": "／", "symbols": "股票", "ticks": "筆", "market": "市場",
    "filter": "篩選", "sort": "排序", "by symbol": "按代號", "worst first": "最差先",
    "most ticks first": "筆數最多先",
    "symbol": "代號", "name": "名稱", "state": "狀態", "reason": "原因", "stored": "已存", "from": "由", "to": "至", "time": "時間",
    "No gap is known.": "沒有已知的缺口。", "None.": "沒有。", "price": "價格", "volume": "成交量", "side": "方向",
    "type": "類別", "interval": "週期", "Tape": "逐筆成交", "Latency": "延遲",
    "source to recorder": "來源至程式", "recorder to file": "程式至檔案", "median": "中位數", "live": "即時",
    "every second": "每秒更新", "reconnecting": "重新連線中", "grade": "評級", "certificate": "完整性證明",
    "archived": "已歸檔", "damaged": "檔案損壞", "day file": "當日檔案", "Download": "下載", "Sample": "樣本",
    "format": "格式", "types": "類別", "all": "全部", "that make the price": "影響價格的", "Show": "顯示",
    "In a terminal": "終端機", "In Python": "Python", "key": "密鑰", "Log in": "登入", "Log out": "登出",
    "This server wants a key.": "這個伺服器需要密鑰。", "as an operator made it: hk-tickctl keys add NAME": "由管理員以 hk-tickctl keys add 名稱 建立",
    "The key that was here has expired or was revoked.": "原來的密鑰已過期或被撤銷。",
    "The server does not answer; trying again.": "伺服器沒有回應，正在重試。", "Skip to the content": "跳至內容",
    "dark": "深色", "light": "淺色", "closed": "休市", "Morning": "早市", "Afternoon": "午市", "Closed": "休市", "ready": "已就緒", "connecting": "連線中", "disconnected": "已斷線", "and more": "等", "BUY": "買", "SELL": "賣", "NEUTRAL": "中性", "pre open auction": "開市前競價", "pre open wait": "等候開市", "morning": "早市", "lunch": "午休",
    "afternoon": "午市", "closing auction": "收市競價", "post close": "收市後", "overnight": "夜盤", "pre market": "盤前", "regular": "盤中", "post market": "盤後", "no day file": "沒有檔案",
    "Order book": "買賣盤", "orders": "掛單", "shares": "股數", "bid": "買入價", "ask": "賣出價", "not watched now": "現時沒有監察",
    "Charts": "圖表", "Snapshots": "快照", "snapshots": "幅快照", "newest snapshot": "最新快照", "series": "系列", "strike": "行使價", "by volume": "按成交量",
    "previous month": "上個月", "next month": "下個月", "requests": "請求數", "Requests by address": "各地址的請求",
    "address": "地址", "reading processes": "讀取程序", "replaced": "已更換",
    "nothing yet": "尚未有", "Notes": "備註", "unknown": "未知", "at most": "最多",
    "verified until": "已核實至", "open": "未補", "All gaps": "所有缺口",
    "copied": "已複製", "copy": "複製",
    "Alerts": "警報", "SQL": "SQL 查詢", "Rows": "結果", "rows": "列", "Run": "執行", "Stop": "停止", "Examples": "例子", "as of": "截至", "there are more": "還有更多",
    "One SELECT over ticks, coverage, gaps, symbols, books, quotes, brokers, snapshots and all_snapshots": "一句 SELECT，可查 ticks、coverage、gaps、symbols、books、quotes、brokers、snapshots 與 all_snapshots", "most turnover": "成交額最高", "ticks by hour": "每小時筆數",
    "sent": "已發送", "given up": "已放棄", "waits": "等候發送", "Wrong now": "目前的問題", "Nothing.": "沒有。", "Muted": "已靜音", "Mute": "靜音", "Tell again": "恢復通知", "rule": "規則", "for": "時間", "key with the scope mute": "有 mute 權限的密鑰", "until": "至", "Told": "已通知", "target": "對象", "text": "內容", "comes and goes": "時好時壞",
    "No outbox of hk-tick-alert is known to this server.": "這個伺服器不知道 hk-tick-alert 的發件匣在哪裏。",
    "To be called when something is wrong, set ALERT_FILE and ALERT_DIR, start hk-tick-alert, and give this server the same ALERT_DIR.": "如要在出事時收到通知，請設定 ALERT_FILE 與 ALERT_DIR，啟動 hk-tick-alert，並把同一個 ALERT_DIR 交給這個伺服器。",
    "Sources": "來源", "source": "來源", "complaint": "事項", "fine": "正常", "problem": "有問題", "restarted": "已重新連線：", "Restart a feed": "重新連線", "Restart the feed": "重新連線", "key with the scope restart": "有 restart 權限的密鑰",
    "asked for": "已提出要求", "restarted and connected again": "已重新連線", "restarted, connecting": "正在重新連線", "not ready": "尚未就緒", "down": "未連線",
    "The connection ends and a new one is made; the recorder goes on and fetches what was traded meanwhile.": "結束現有連線並重新建立；錄製程式繼續運行，並補取期間的成交。",
    "No recorder here takes requests: under systemd each does; elsewhere set RESTARTS_DIR for the recorder and for this server.": "這裏沒有錄製程式接受要求：在 systemd 下全部都接受；其他情況請為錄製程式及這個伺服器設定 RESTARTS_DIR。",
    "Latency over the day": "全日延遲", "the slowest five minutes": "最慢的五分鐘", "Live readers": "即時讀者", "behind": "落後", "catching up": "追趕中",
    "The live channel is not at this address; pages ask every second instead.": "這個地址沒有即時通道；頁面改為每秒查詢。",
  },
};

const stored = (name, fallback) => { try { return localStorage.getItem(name) ?? fallback; } catch { return fallback; } };
export const keep = (name, value) => { try { localStorage.setItem(name, value); } catch { /* a private window */ } };

export const prefs = {
  language: stored("hk-language", (navigator.language || "en").toLowerCase().startsWith("zh") ? "zh" : "en"),
  theme: stored("hk-theme", matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"),
};

/** A server's sentence in the language chosen, where it is known; else as it came. */
export const said = (text) => (prefs.language === "zh" && text ? inChinese(text) : text ?? "");
/** What a complaint or an alert says, in the language chosen. */
export const complaint = ({ code, sentence }) => (prefs.language === "zh" && code ? complaintInChinese(code, sentence) : null) ?? sentence;

/** The word in the language chosen; English itself is the key. */
export const t = (word) => (prefs.language === "en" ? word : WORDS.zh[word] ?? word);

const grouped = new Intl.NumberFormat("en-US");
export const count = (value) => (value === null || value === undefined ? "–" : grouped.format(value));
export const price = (value) => (value === null || value === undefined ? "–" : String(Number(Number(value).toFixed(4))));

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KB", "MB", "GB", "TB"];
  let power = 0;
  while (value >= 1000 && power < units.length - 1) { value /= 1000; power += 1; }
  return `${value >= 100 || power === 0 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}

/** 0.004 -> "4 ms", 12.3 -> "12.3 s", 200 -> "3 min". */
export function seconds(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size < 1) return `${Math.round(value * 1000)} ms`;
  if (size < 100) return `${value.toFixed(1)} s`;
  if (size < 7200) return `${Math.round(value / 60)} min`;
  return size < 172_800 ? `${(value / 3600).toFixed(1)} h` : `${Math.round(value / 86_400)} d`;
}

export const iso = (ms) => (ms === null || ms === undefined ? "" : new Date(ms).toISOString().replace("T", " ").replace("Z", " UTC"));
const formats = new Map();
function formatter(zone, hasMillis) {
  const key = `${zone}${hasMillis}`;
  if (!formats.has(key)) {
    formats.set(key, new Intl.DateTimeFormat("en-GB", {
      timeZone: zone, hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
      ...(hasMillis ? { fractionalSecondDigits: 3 } : {}),
    }));
  }
  return formats.get(key);
}
/** The time of day in the market's zone. */
export const clock = (ms, zone, hasMillis = false) =>
  ms === null || ms === undefined ? "–" : formatter(zone, hasMillis).format(ms);
/** Milliseconds that the zone is ahead of UTC at that moment. */
export function zoneOffset(ms, zone) {
  const parts = Object.fromEntries(new Intl.DateTimeFormat("en-GB", {
    timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
    hourCycle: "h23",
  }).formatToParts(ms).map((part) => [part.type, part.value]));
  const local = Date.UTC(parts.year, parts.month - 1, parts.day, parts.hour, parts.minute, parts.second);
  return local - Math.floor(ms / 1000) * 1000;
}
/** The date and the time of day in the market's zone, without the year: 11-29 15:04. */
export const dateClock = (ms, zone) => {
  if (ms === null || ms === undefined) return "–";
  const local = new Date(ms + zoneOffset(ms, zone)).toISOString();
  return `${local.slice(5, 10)} ${local.slice(11, 16)}`;
};
export const dayText = (day) => (day ? `${day.slice(0, 4)}-${day.slice(4, 6)}-${day.slice(6)}` : "–");
export const zoneName = (zone) => ({ "Asia/Hong_Kong": "HKT", "America/New_York": "ET", "Asia/Shanghai": "CST", "America/Chicago": "CT" })[zone] ?? zone;
