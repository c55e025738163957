// What is wrong, in Chinese: a line for each code of core/complaint.py, `[what it is about, [sentence, in Chinese], ...]`.
// `{}` is any text, in its order. A sentence that is not known follows what it is about as it came.

const COMPLAINTS = {
  worker_dead: ["寫入工作已中止", ["persist worker is dead", "負責寫入的工作執行緒已中止"]],
  loop_stuck: ["主迴圈停頓", ["event loop is stuck", "程式的主迴圈停頓了"]],
  ticks_refused: ["成交無法接收", ["{}s were refused: queue full and spill not writable", "佇列已滿，溢出檔又無法寫入，有{}被捨棄"],
    ["{} refused since the start: neither queue nor spill took them", "自啟動以來有 {} 被捨棄：佇列與溢出檔均無法接收"], ["{} {}s were lost: neither queue nor spill took them", "遺失了 {} 筆{}：佇列與溢出檔均無法接收"]],
  not_storing: ["無法存檔", ["rows wait and nothing is committed", "有資料等候，但一直未能寫入"]],
  source_disconnected: ["與來源斷線", ["{} is {}", "與 {} 的連線：{}"]],
  source_mute: ["來源沒有聲息", ["{} is connected and silent for {} s", "{} 已連線，但 {} 秒來沒有任何回應"]],
  no_ticks: ["收不到成交", ["market is open and no tick came for {} s", "市場開市，但 {} 秒來沒有收到成交"], ["market is open and no snapshot came for {} s", "市場開市，但 {} 秒來沒有收到快照"], ["market is open and no {} came for {} s", "市場開市，但沒有收到{}，已 {} 秒"]],
  push_silent: ["推送中斷", ["no push for {} s while polls brought {} ticks", "{} 秒來沒有推送，查詢卻取得 {} 筆成交"]],
  network_thread_dead: ["網絡執行緒已中止", ["the SDK's network thread is dead", "SDK 的網絡執行緒已中止"]],
  market_closed_by_source: ["來源說已休市", ["{} says the market is {}, our calendar says it is open", "{} 說市場狀態為 {}，但按交易日曆應已開市"]],
  ticks_late: ["成交遲到", ["newest {} is older than DRIFT_WARN_SEC", "最新一筆{}已超過 DRIFT_WARN_SEC 所定的時間"]],
  ticks_from_future: ["成交時間在未來", ["the newest {} lies {} s in the future", "最新一筆{}的時間在 {} 秒之後"]],
  symbols_refused: ["有股票未能訂閱", ["{} symbols are not subscribed", "{} 隻股票未能訂閱"]],
  books_refused: ["有買賣盤未能訂閱", ["1 order book not subscribed ({}); ticks go on", "1 隻股票的買賣盤未能訂閱（{}）；成交不受影響"], ["{} order books not subscribed ({}); ticks go on", "{} 隻股票的買賣盤未能訂閱（{}）；成交不受影響"],
    ["1 broker queue not subscribed ({}); ticks go on", "1 隻股票的經紀排隊未能訂閱（{}）；成交不受影響"], ["{} broker queues not subscribed ({}); ticks go on", "{} 隻股票的經紀排隊未能訂閱（{}）；成交不受影響"]],
  books_not_storing: ["買賣盤無法存檔", ["order books wait and none was stored for {} s; ticks go on", "有買賣盤等候，{} 秒來未能寫入；成交不受影響"], ["broker queues wait and none was stored for {} s; ticks go on", "有經紀排隊等候，{} 秒來未能寫入；成交不受影響"]],
  login_ends: ["登入快到期", ["the login at {} ends in {}: {}", "{} 的登入將於 {} 後到期：{}"], ["the login at {} ended {} ago: {}", "{} 的登入已於 {} 前到期：{}"]],
  ticks_missing: ["缺少成交", ["ticks are missing that {} no longer shows", "缺少一些 {} 已不再提供的成交"], ["ticks are missing; {} shows the whole day after its close", "缺少一些成交；{} 收市後會提供全日成交"],
    ["{}: 1 symbol misses {}: hk-tickctl gaps", "{}：1 隻股票缺少 {}；詳見 hk-tickctl gaps"], ["{}: {} symbols miss {}: hk-tickctl gaps", "{}：{} 隻股票缺少 {}；詳見 hk-tickctl gaps"]],
  beginning_unseen: ["未見開市之初", ["the day's beginning was not shown: up to {} may have come before the first ones seen", "來源沒有提供當日開始的部分：最先收到的之前，最多可能有 {}"],
    ["{}: the beginning of {} was not shown, up to {} may have come before the first ones seen: hk-tickctl gaps", "{}：{} 當日開始的部分從未收到，最先收到的之前最多可能有 {}；詳見 hk-tickctl gaps"]],
  holes_open: ["有未補的缺口", ["{} holes are open: ticks were jumped over", "有 {} 個缺口未補：中間的成交被跳過了"]],
  spill_waiting: ["溢出檔有待寫入", ["rows wait in the spill", "溢出檔內有資料等候寫入"], ["{} bytes wait in the spill; the recorder stores them when it starts", "溢出檔內有 {} 位元組，錄製程式啟動時會寫入"], ["{} rows wait in the spill", "溢出檔內有 {} 列等候寫入"]],
  spill_growing: ["溢出檔不斷增長", ["the spill grows: {} rows", "溢出檔不斷增長，現有 {} 列"]],
  writer_replaced: ["寫入執行緒已更換", ["the watchdog replaced the writer", "watchdog 更換了寫入執行緒"]],
  commits_slow: ["寫入緩慢", ["storing a {} takes {} ms (p99)", "寫入一筆{}需時 {} 毫秒（p99）"]],
  ticks_quarantined: ["成交被隔離", ["{} {}s went into the quarantine", "{} 筆{}放進了隔離區"]],
  recorder_down: ["錄製程式沒有運行", ["no recorder runs on this data root; start it: {}", "沒有錄製程式使用這個資料目錄；啟動：{}"]],
  recorder_stopped: ["錄製程式已停止", ["the recorder was stopped ({}); start it: {}", "錄製程式已停止（{}）；啟動：{}"]],
  recorder_stopping: ["錄製程式正在停止", ["the recorder says {}: {}", "錄製程式{}：{}"]],
  recorder_died: ["錄製程式意外中止", ["the recorder (pid {}) ended without an ordered stop, {} s ago or later; see why: hk-tickctl logs; start it: {}", "錄製程式（pid {}）未經正常程序便中止，約在 {} 秒前或之後；原因見 hk-tickctl logs；啟動：{}"]],
  recorder_suspended: ["錄製程式被暫停", ["the recorder (pid {}) was stopped by a signal and does nothing: kill -CONT {}", "錄製程式（pid {}）被訊號暫停，沒有運作：kill -CONT {}"]],
  recorder_starting: ["錄製程式啟動中", ["the recorder (pid {}) has been starting for {} s", "錄製程式（pid {}）已啟動了 {} 秒，尚未就緒"]],
  recorder_silent: ["錄製程式沒有聲息", ["the recorder (pid {}) lives but has not said anything for {} s: it hangs, or {} cannot be written; its stacks: kill -USR1 {}, then the log", "錄製程式（pid {}）仍在，但 {} 秒來沒有更新：可能已停頓，或 {} 無法寫入；先 kill -USR1 {}，再看日誌內的堆疊"]],
  recorder_restarting: ["錄製程式反覆重啟", ["the service {} keeps failing ({} restarts): hk-tickctl logs", "服務 {} 不斷失敗（已重啟 {} 次）：hk-tickctl logs"], ["the recorder started {} times in half an hour", "錄製程式半小時內啟動了 {} 次"]],
  recorder_complains: ["錄製程式報告問題"],
  configuration_wrong: ["設定有誤", ["the configuration is wrong, so the recorder does not start (exit code 78): hk-tickctl config says what, correct it, then: {}", "設定有誤，錄製程式無法啟動（退出碼 78）：用 hk-tickctl config 查看，更正後執行：{}"]],
  service_failed: ["系統服務失敗", ["the service {} has failed: {} (the configuration is wrong, see hk-tickctl config)", "服務 {} 失敗：{}（設定有誤，見 hk-tickctl config）"], ["the service {} has failed: {}", "服務 {} 失敗：{}"]],
  service_other_root: ["服務使用另一資料目錄", ["the service {} runs, but on another data root: name it with --data-root", "服務 {} 正在運行，但使用另一個資料目錄：以 --data-root 指定"]],
  service_not_enabled: ["服務不會開機啟動", ["the service does not start at boot: sudo systemctl enable {}", "服務不會隨開機啟動：sudo systemctl enable {}"]],
  day_file_unreadable: ["當日檔案無法讀取", ["the newest day file cannot be read: {}", "最新的當日檔案無法讀取：{}"]],
  days_to_come: ["有未來日子的檔案", ["there are files of days to come ({}): their {}s carry a wrong date, or this machine's clock is wrong; if the clock is right: {}", "有未來日子的檔案（{}）：{}的日期有誤，或本機時鐘不準；如時鐘正確，{}"]],
  disk_silent: ["磁碟沒有回應", ["the disk of {} does not answer", "{} 所在的磁碟沒有回應"]],
  disk_full: ["磁碟已滿", ["the disk has no room for another day: {} bytes are free", "磁碟容不下多一日：只餘 {} 位元組"]],
  disk_fills_up: ["磁碟快滿", ["the disk is full in {} recorded days: hk-tickctl archive, hk-tickctl retain", "磁碟再記錄 {} 日便滿：hk-tickctl archive、hk-tickctl retain"]],
  unit_failed: ["系統服務失敗", ["the unit failed ({})", "服務失敗（{}）"]],
  hook_silent: ["策略沒有訊號", ["no signal of {} for {} of trading ({})", "{} 在開市的 {} 內沒有訊號（{}）"]],
  day_not_archived: ["交易日未歸檔", ["{} is over for hours and is not archived; days before it are", "{} 收市已數小時仍未歸檔，之前的日子則已歸檔"]],
  copy_behind: ["ClickHouse 副本落後", ["hk-tick-ship says nothing any more (pid {})", "hk-tick-ship（pid {}）再沒有更新"], ["ClickHouse takes no ticks: {}", "ClickHouse 不接收成交：{}"], ["ClickHouse takes no ticks", "ClickHouse 不接收成交"],
    ["ClickHouse lets no copy be proven: {}", "ClickHouse 的副本無法核實：{}"], ["{} wait for ClickHouse, the oldest for {} s: {}", "{} 等候寫入 ClickHouse，最早的已等 {} 秒：{}"], ["{} wait for ClickHouse, the oldest for {} s", "{} 等候寫入 ClickHouse，最早的已等 {} 秒"]],
  copy_unequal: ["ClickHouse 副本不相符", ["the copy in ClickHouse cannot be made equal: {}", "ClickHouse 的副本無法與原檔一致：{}"]],
};
// Parts of sentences.
const PARTS = {
  "scripts/repair_future_ts_ms.py shows them, and with --apply puts them aside": "scripts/repair_future_ts_ms.py 會列出這些成交，加 --apply 則移開", "move these files away": "請移走這些檔案",
  tick: "成交", snapshot: "快照", stopping: "正在停止", down: "未連線", connecting: "連線中", not_ready: "尚未就緒", "asked to stop": "按要求停止", Closed: "休市", closed: "休市", "none came yet": "從未收到", ticks: "成交",
};
const COUNTED = { tick: "筆成交", snapshot: "筆快照", minute: "分鐘" };
const SAYS = /^the recorder (raises an alert|warns|notes): /;

const escaped = (text) => text.replace(/[.*+?^$|()[\]\\]/g, "\\$&").replaceAll("{}", "(.+?)");
const partly = (text) => {
  const [, number, noun] = /^([\d,]+) (\w+?)s?$/.exec(text) ?? [];
  return PARTS[text] ?? (COUNTED[noun] ? `${number} ${COUNTED[noun]}` : text);
};

/** What a complaint says, or what it is about and its sentence as it came; null for a code that is not known. */
export function complaintInChinese(code, sentence) {
  const [about, ...known] = Object.hasOwn(COMPLAINTS, code) ? COMPLAINTS[code] : [null];
  if (about === null) return null;
  const told = sentence.replace(SAYS, "");
  for (const [form, words] of known) {
    const found = new RegExp(`^${escaped(form)}$`).exec(told);
    if (found !== null) {
      let at = 0;
      return words.replace(/\{\}/g, () => partly(found[at += 1]));
    }
  }
  return `${about}：${told}`;
}
