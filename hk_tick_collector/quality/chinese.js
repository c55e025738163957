// What certificates, reasons and the pages of days say in English, in written Chinese of Hong Kong. The page of a day has
// this inside; the dashboard gets it as a module (serve/web/files.py). `{}` is any text, which is looked up itself, `{#}`
// a number, or the n that stands for several; `(s)` is there or not; what follows `|` is their order in Chinese. What is
// not known stays as it came.
"use strict";
const CHINESE = {
  // The certificate's sentence, part by part
  "{} so far ({})": "{}（截至 {}）", "{#} of {#}": "{}／{}",
  "{} misses {} of {} tick(s), in {} of {} symbol(s)": "{} 在 {} 筆成交中缺 {} 筆，涉及 {} 隻股票（共 {} 隻）|1 3 2 4 5",
  "{} misses at least {} tick(s) in {} of {} symbol(s)": "{} 至少缺 {} 筆，涉及 {} 隻股票（共 {} 隻）", "for {} it is unknown what came before the first tick seen (at most {} in all)": "{} 隻股票首筆所見之前有甚麼成交並不知道（合共最多 {} 筆）",
  "{} is not proven to be complete: for {} of {} symbol(s) it is unknown what came before the first tick seen, at most {} tick(s)": "{} 未能證明完整：{} 隻股票（共 {} 隻）首筆所見之前有甚麼成交並不知道，最多 {} 筆",
  "{} are proven complete ({} as equal to an imported file alone), {} unproven": "{} 隻已證明完整（其中 {} 隻只證明與匯入檔案相同），{} 隻未證明",
  "{} are proven complete ({} as equal to an imported file alone), {} unproven (also: {})": "{} 隻已證明完整（其中 {} 隻只證明與匯入檔案相同），{} 隻未證明（另有原因：{}）",
  "{} are proven complete, {} unproven (also: {})": "{} 隻已證明完整，{} 隻未證明（另有原因：{}）",
  "{} are proven complete, {} unproven": "{} 隻已證明完整，{} 隻未證明",
  "{} is complete: {} tick(s) of {} symbol(s), every symbol proven, and OpenD had nothing more after the close": "{} 完整：{} 筆成交，{} 隻股票全部已證明，收市後 OpenD 亦再無其他成交",
  "{} is complete as far as asked: {} tick(s) of {} symbol(s), every symbol proven, {} of them not to the end of the day": "{} 在已查詢的範圍內完整：{} 筆成交，{} 隻股票全部已證明，其中 {} 隻未證明至收市",
  "{} is complete: {} tick(s) of {} symbol(s), every symbol proven until {}": "{} 完整：{} 筆成交，{} 隻股票全部已證明至 {}",
  "{} is complete: {} tick(s) of {} symbol(s), every symbol proven": "{} 完整：{} 筆成交，{} 隻股票全部已證明",
  "{} is not proven to be complete: nothing is known to be missing in {} tick(s) of {} symbol(s), but {} is unproven (mostly: {})": "{} 未能證明完整：{} 筆成交（{} 隻股票）中沒有已知的缺失，但有 {} 隻未證明（主要原因：{}）",
  "{} is not proven to be complete: nothing is known to be missing in {} tick(s) of {} symbol(s), but {} are unproven (mostly: {})": "{} 未能證明完整：{} 筆成交（{} 隻股票）中沒有已知的缺失，但有 {} 隻未證明（主要原因：{}）",
  "{} holds {} tick(s), and nothing is known of their completeness": "{} 有 {} 筆成交，是否完整則不得而知", "{} holds no tick": "{} 沒有成交",
  "{} cannot be read: {}": "{} 無法讀取：{}", "{} contradicts itself ({} problem(s)): what it says of its completeness cannot be relied on": "{} 自相矛盾（{} 個問題），所述的完整度不可靠",
  "{} wanted symbols were not subscribed: {}": "{} 隻所需股票沒有訂閱：{}", "{} wanted symbol was not subscribed: {}": "{} 隻所需股票沒有訂閱：{}",
  "Its {} rows were read again at {} on {}": "其 {} 列資料於 {}（{}）再讀一次", "Its {} rows were read again at {}": "其 {} 列資料於 {} 再讀一次",
  "Its {} row was read again at {}": "其 {} 列資料於 {} 再讀一次", "Its rows were not read again": "資料未曾再讀",
  // Why it has its grade
  "Grade {}: {}.": "評級 {}：{}。", "at most {} of {} ticks are missing ({})": "{} 筆成交中最多缺 {} 筆（{}）|2 1 3", "{} of {} ticks are missing ({})": "{} 筆成交中缺 {} 筆（{}）|2 1 3",
  "at most {} of {} ticks may be missing ({})": "{} 筆成交中最多可能缺 {} 筆（{}）|2 1 3",
  "besides, nothing counts what other doubts may hide": "其他疑點可能隱藏的缺失則無從點算",
  "{} of {} ticks is missing ({})": "{} 筆成交中缺 {} 筆（{}）|2 1 3", "at most {} of {} ticks is missing ({})": "{} 筆成交中最多缺 {} 筆（{}）|2 1 3",
  "nothing is known to be missing": "沒有已知的缺失", "symbols that are not proven hold at most 1 % of the ticks": "未證明的股票所佔成交不多於 1%",
  "symbols that are not proven hold more than 1 % of the ticks": "未證明的股票所佔成交多於 1%", "a wanted symbol was not subscribed all day": "有所需股票並非全日訂閱",
  "OpenD was not asked for each symbol after the closing auction": "收市競價後並未就每隻股票向 OpenD 查詢", "the file was not read after the closing auction": "收市競價後並未讀取檔案", "the rows were not read again": "資料未曾再讀",
  "every symbol is proven and, once the day is over, OpenD was asked for each after the closing auction and all rows were read again": "每隻股票均已證明，收市競價後逐一向 OpenD 查詢過，全部資料亦再讀一次",
  "the file cannot be read, contradicts itself, or holds no tick": "檔案無法讀取、自相矛盾，或沒有成交",
  // Why a symbol is not proven
  "up to {#} tick(s) may have come before the first one seen: see table gaps": "首筆所見之前可能還有成交，最多 {} 筆，見缺口表",
  "ticks that OpenD no longer shows: see table gaps": "OpenD 已不再提供這些成交，見缺口表", "OpenD no longer shows them": "OpenD 已不再提供", "not shown by OpenD": "OpenD 沒有提供", "beyond the newest {}": "早於 OpenD 所提供的最近 {} 筆", "could not be read": "無法讀取",
  "OpenD had {#} tick(s) or more that are not stored": "OpenD 至少有 {} 筆沒有存下", "{#} tick(s) between the stored ones": "已存的成交之間缺 {} 筆", "OpenD had ticks up to counter {#}, stored are those up to {#}": "OpenD 有至計數 {} 的成交，只存至 {}",
  "the day began with counter {#}, stored are those from {#}": "當日由計數 {} 開始，所存由 {} 起", "not yet confirmed by a pull": "尚未向 OpenD 核實", "the day's first ticks are not proven": "當日最初的成交未能證明",
  "no tick stored, and OpenD did not say that it has none": "沒有存下成交，OpenD 亦沒有表示當日無成交", "{#} tick(s) without a sequence": "{} 筆沒有序號", "ticks without a sequence": "成交沒有序號", "two ticks with one sequence": "兩筆成交共用一個序號",
  "recording began in mid-session": "盤中才開始記錄", "no counter in this market": "這個市場沒有計數", "conflated by the source": "來源只不時提供最後成交", "{#} of volume missing in {#} place(s) between its running totals": "累計成交量之間缺少 {}（{} 處）", "the source has not yet shown the whole day after its close": "收市後來源尚未提供全日成交", "the whole day as the source shows it after the close has other trades": "收市後來源所示的全日成交與所存不同", "whether the night session had trades is not known: the whole day shows none, and none was told": "夜盤有沒有成交無從得知：全日資料沒有，盤中亦沒有收到", "no trade of the night session was told, and whether the whole day shows all of it is not known": "夜盤的成交一筆也沒有收到，全日資料是否包括整個夜盤無從得知", "two trades take the same part of a running total": "兩筆成交佔用累計成交量的同一段", "volume between running totals that no stored trade has": "累計成交量之間沒有任何所存成交的一段", "push and pull disagree on the same ticks": "推送與查詢所見不一致", "counters went back while time went on": "時間前進而計數倒退",
  "sequences do not count the ticks": "序號並非逐筆計數", "a tick could not be read": "有一筆成交無法讀取", "OpenD did not show the ticks before and after an interruption together": "中斷前後的成交，OpenD 未曾一併提供",
  "OpenD has not yet shown the ticks before and after an interruption together": "中斷前後的成交，OpenD 尚未一併提供", "a tick that could not be stored is in the quarantine": "有一筆無法存下的成交在隔離區", "notes of the day could not be read when its file was salvaged": "搶救檔案時，當日的記錄有部分無法讀取",
  "{#} tick(s) without a counter of their own, {#} counter(s) absent": "{} 筆沒有自己的計數，另有 {} 個計數不見", "the counters do not count: {#} tick(s) too many": "計數與筆數不符，多 {} 筆", "the counters do not count: {#} tick(s) too few": "計數與筆數不符，少 {} 筆",
  "OpenD shows no ticks for some counters and never had them": "有些計數 OpenD 從來沒有成交", "a tick of this day's count is dated another day": "當日計數中有一筆成交註明另一日期", "push and pull disagree on ticks that another day counted": "另一日計數的成交，推送與查詢所見不一致",
  "{#} rows more than its file had when it was last read: import the file again": "比上次讀取時的檔案多 {} 列，請再匯入檔案", "{#} rows fewer than its file had when it was last read: import the file again": "比上次讀取時的檔案少 {} 列，請再匯入檔案", "its file is another one now, and could not be compared: see what the import says of it": "檔案已經不同，未能比較，請看匯入時的訊息",
  "equal to its file, which was not read again since: import it once more, best after its program was restarted or has connected again": "與檔案相同，但檔案其後未再讀取；請再匯入一次，最好在來源程式重新啟動或連線之後",
  "no connection to OpenD": "與 OpenD 沒有連線", "OpenD is not logged in": "OpenD 未登入", "not subscribed: {}": "沒有訂閱：{}",
  // Notes
  "the rows were not compared with the recorder's notes: --recount does that": "資料未曾與錄製程式的筆記核對；--recount 可以核對", "rows wait in the spill and are not in the file yet: is the recorder running?": "溢出區尚有資料未寫入檔案：錄製程式是否正在運行？",
  "the source conflates its trades: the rows hold {} % of the volume that it told of": "來源並非逐筆提供成交：資料佔其所述成交量的 {}%",
  "the calendar says that the market is closed on this day": "按交易日曆，當日休市", "an earlier recorder wrote this file: it notes nothing about its completeness": "檔案由早期版本寫成，沒有記下完整度",
  // The page of a day
  "All days": "所有交易日", "Ticks of {}": "{} 逐筆成交", "ticks stored": "已存筆數", "ticks expected": "應有筆數", "ticks expected ({} symbols)": "應有筆數（{} 隻股票）", "ticks missing": "缺失筆數", "symbols proven": "已證明的股票",
  "symbols missing ticks": "有缺失的股票", "symbols unproven": "未證明的股票", "Problems": "問題", "Notes": "備註", "Price and volume": "價格與成交量", "Symbol": "股票", "price and volume of {}": "{} 的價格與成交量", "volume": "成交量",
  "Trades that make the price, a bar for {}: its range, the line is its close.": "只計影響價格的成交；每{}一條：豎線為高低價，折線為收市價。", "Trades that make the price, a bar for {}: its range, the line is its close; {} of {} symbols are in this page (hk-tickctl bars shows any).": "只計影響價格的成交；每{}一條：豎線為高低價，折線為收市價；本頁載有 {} 隻股票（共 {} 隻，其餘可用 hk-tickctl bars 查看）。",
  "a minute": "分鐘", "{} minutes": " {} 分鐘", "open {}, high {}, low {}, close {}, volume {}": "開 {}　高 {}　低 {}　收 {}　成交量 {}", "no prices of {} are in this page": "本頁沒有 {} 的價格",
  "Ticks a minute, logarithmic scale": "每分鐘筆數（對數刻度）", "Lag of pushed ticks, event to our clock, logarithmic scale": "推送延遲：由成交至本機收到（對數刻度）", "median": "中位數", "99th percentile": "第 99 百分位", "Gaps": "缺口", "open": "未補", "closed": "已補", "filled later": "其後補回",
  "Ticks in five minutes, {} of {} symbols": "每五分鐘筆數（{}／{} 隻股票）", "symbols that miss ticks first, then the most traded": "有缺失的排先，其後按筆數", "Sessions": "交易時段", "session": "時段", "hours": "時間", "ticks": "筆數", "first": "首筆", "last": "末筆",
  "auction prints": "競價成交", "confirmed symbols": "已核實股票", "Confirmed: OpenD was asked after the session, and had nothing that is not stored.": "已核實：時段結束後曾向 OpenD 查詢，並無未存下的成交。", "Confirmed: the imported file was read after the session, and had nothing that is not stored.": "已核實：時段結束後曾讀取匯入檔案，並無未存下的成交。",
  "opening auction": "開市前競價", "pre open auction": "開市前競價", "morning": "早市", "lunch": "午休", "afternoon": "午市", "closing auction": "收市競價", "Ticks by kind": "成交分類", "type": "類別", "direction": "方向", "came by": "來源", "share": "比例", "what": "項目",
  "push": "推送", "poll": "查詢", "backfill": "回補", "repair": "修補", "received after a later tick of the symbol (out of order)": "遲於同一股票較後的成交收到（次序顛倒）", "received more than 5 s after the event (late)": "成交後超過 5 秒才收到（遲到）",
  "time differs from the sequence's second": "時間與序號的秒數不符", "OpenD had it before its event time": "OpenD 早於成交時間收到", "outside the sessions": "在交易時段以外", "without a price (0)": "沒有價格（0）", "without a volume (0)": "沒有成交量（0）", "with the date of another day": "日期屬另一日",
  "{}: {#} ticks": "{}：{} 筆", "{} counters {}: {#} tick(s) missing ({})": "{} 計數 {}：缺 {} 筆（{}）", "{} counters {}: an unknown number of ticks missing ({})": "{} 計數 {}：缺失筆數不明（{}）", "{} counters {}: an unknown number of ticks may be missing ({})": "{} 計數 {}：可能有缺失，筆數不明（{}）", "{} counters {}: filled ({})": "{} 計數 {}：已補回（{}）",
  "ticks a minute, logarithmic scale": "每分鐘筆數（對數刻度）", "lag of pushed ticks, logarithmic scale": "推送延遲（對數刻度）", "gaps": "缺口", "ticks in five minutes by symbol": "各股票每五分鐘筆數", "table of {}, {}, {}": "表格：{}、{}、{}", "table of {}, {}": "表格：{}、{}",
  "What is missing": "缺失的部分", "The first {} of {}.": "首 {} 項，共 {} 項。", "state": "狀態", "from": "由", "to": "至", "counters": "計數", "why": "原因", "Symbols": "股票", "The worst first.": "情況最差的排先。", "{} proven symbols": "{} 隻已證明的股票", "symbol": "代號", "name": "名稱",
  "stored": "已存", "expected": "應有", "missing": "缺失", "confirmed": "核實至", "auctions": "競價", "out of order": "次序顛倒", "late": "遲到", "proven": "已證明", "unproven": "未證明",
  "{}, over. Made {} {} {} time from {} by hk-tick-collector {}. Times are {}'s.": "{}，已收市。{} {}（{}時間）由 hk-tick-collector {} 根據 {} 製作。所有時間均為{}時間。|1 2 3 4 6 5 7", "{}, still in session. Made {} {} {} time from {} by hk-tick-collector {}. Times are {}'s.": "{}，尚未收市。{} {}（{}時間）由 hk-tick-collector {} 根據 {} 製作。所有時間均為{}時間。|1 2 3 4 6 5 7",
  "whole trading day": "全日市", "half trading day": "半日市", "closed trading day": "休市日", "Hong Kong": "香港",
  // Its order books and broker queues
  "Order books": "買賣盤", "Broker queues": "經紀排隊", "Watched, which is no proof: a push of a broker queue has neither a number nor a time.": "以下為監察所得，並非證明：經紀排隊的推送既沒有編號，亦沒有時間。", "{#} pushes received: {#} stored; {#} merged; {#} unread.": "收到 {} 個推送：{} 個已存，{} 個合併，{} 個未讀。", "no order books": "沒有買賣盤", "no broker queues": "沒有經紀排隊", "Watched and witnessed, which is no proof: a push of a book has no number.": "以下為監察及見證所得，並非證明：買賣盤推送沒有編號。", "The pushes that were received do not add up.": "收到的推送數目不符。",
  "watched {} of trading": "監察了 {} 的交易時間", "no continuous trading to watch": "當日沒有持續交易時段", "{#} blind stretch": "{} 段未能監察", "{#} blind stretches": "{} 段未能監察", "{#} pushes merged": "合併了 {} 個推送", "{#} impossible states": "{} 個不合理的買賣盤", "{#} of {#} pulls agree": "{} 次查核相符（共 {} 次）", "{} of trades answered": "{} 的成交有買賣盤變動跟隨", "{#} suspected holes": "{} 段懷疑缺失",
  "watched {} of trading, {#} blind stretch ({})": "監察了 {} 的交易時間，{} 段未能監察（{}）", "watched {} of trading, {#} blind stretches ({})": "監察了 {} 的交易時間，{} 段未能監察（{}）", "connection lost": "連線中斷", "recorder died": "錄製程式意外終止", "recorder stopped": "錄製程式已停止", "not watched yet": "尚未開始監察", "the recorder's last word": "錄製程式最後的記錄",
  "watched": "監察", "blind": "未能監察", "unread": "未讀", "pushes": "推送", "merged": "合併", "pulls": "查核", "answered": "有跟隨", "impossible": "不合理", "holes": "懷疑缺失", "clock back": "時鐘倒退", "no time": "沒有時間", "one-sided": "單邊",
  // The page of all days
  "Recorded days": "已記錄的交易日", "{} recorded day(s). A letter is the grade of a day's certificate; a day without one has none yet: hk-tickctl day YYYYMMDD --html makes it.": "共 {} 個交易日。字母為當日完整性證明的評級；沒有字母即尚未有完整性證明，可用 hk-tickctl day YYYYMMDD --html 製作。",
  "Newest days": "最近的交易日", "newest days": "最近的交易日", "day": "交易日", "grade": "評級", "certificate": "完整性證明", "no certificate yet": "尚未有完整性證明", "{}: no certificate yet": "{}：尚未有完整性證明",
  "Mo": "一", "Tu": "二", "We": "三", "Th": "四", "Fr": "五", "Sa": "六", "Su": "日",
  "January {}": "{} 年 1 月", "February {}": "{} 年 2 月", "March {}": "{} 年 3 月", "April {}": "{} 年 4 月", "May {}": "{} 年 5 月", "June {}": "{} 年 6 月", "July {}": "{} 年 7 月", "August {}": "{} 年 8 月", "September {}": "{} 年 9 月", "October {}": "{} 年 10 月", "November {}": "{} 年 11 月", "December {}": "{} 年 12 月",
};

const PATTERNS = Object.keys(CHINESE).filter((text) => /\{#?\}|\(s\)/.test(text)).sort((a, b) => b.length - a.length).map((text) => {
  const form = text.replace(/[.*+?^$|()[\]\\]/g, "\\$&").replaceAll("\\(s\\)", "s?").replaceAll("{}", "(.+?)").replaceAll("{#}", "([\\d,]+|n)");
  const [words, order] = CHINESE[text].split("|");
  return { form: new RegExp(`^${form}$`), words, order: order?.split(" ").map(Number), isWhole: text.includes(". "), isClosed: text.endsWith(".") };
});

const known = new Map();
/** In Chinese, where it is known; the same text else. */
function inChinese(text) {
  const asked = text.trim();
  if (!/[a-z]{2}/.test(asked)) return text;
  if (!known.has(asked)) known.set(asked, lookUp(asked.slice(0, 2000)));
  return text.replace(asked, () => known.get(asked));
}
function lookUp(text) {
  if (Object.hasOwn(CHINESE, text)) return CHINESE[text];
  const sentences = text.split(/(?<=\.) (?=[A-Z0-9])/);
  for (const { form, words, order, isWhole, isClosed } of PATTERNS) {
    const fits = isWhole || (sentences.length === 1 && isClosed === text.endsWith("."));
    const found = fits ? form.exec(text) : null;
    if (found === null) continue;
    let at = 0;
    return words.replace(/\{\}/g, () => { at += 1; return inChinese(found[order ? order[at - 1] : at]); });
  }
  if (sentences.length > 1) return sentences.map(inChinese).join("");
  if (text.endsWith(".") && inChinese(text.slice(0, -1)) !== text.slice(0, -1)) return `${inChinese(text.slice(0, -1))}。`;
  const parts = text.split("; ");
  return parts.length > 1 ? parts.map(inChinese).join("；") : text;
}
