// The language that is chosen, and price and volume of the symbol that is chosen. All of it is in the page; nothing is
// asked of anybody. The choice is the dashboard's own, where a server shows both.
const language = (() => {
  const stored = () => { try { return localStorage.getItem("hk-language"); } catch { return null; } };
  const keep = (value) => { try { localStorage.setItem("hk-language", value); } catch { /* a private window */ } };
  let chosen = stored() ?? ((navigator.language || "en").toLowerCase().startsWith("zh") ? "zh" : "en");
  const english = new Map(); // a text, or an element's attributes, as the page came
  const title = document.title, button = document.createElement("button");
  const SPOKEN = ["title", "aria-label"];
  const t = (text) => (chosen === "zh" ? inChinese(text) : text);
  function show() {
    document.documentElement.lang = chosen === "zh" ? "zh-Hant-HK" : "en";
    document.title = t(title);
    button.textContent = chosen === "zh" ? "English" : "中文";
    button.lang = chosen === "zh" ? "en" : "zh-Hant";
    for (const [node, said] of english) {
      if (node.nodeType === Node.TEXT_NODE) { if (said !== "") node.data = t(said); } else for (const [name, value] of said) node.setAttribute(name, t(value));
    }
  }
  const main = document.querySelector("main"), walker = document.createTreeWalker(main, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (node.nodeType === Node.TEXT_NODE) { if (/[a-z]{2}/.test(node.data)) english.set(node, node.data); continue; }
    const spoken = SPOKEN.filter((name) => node.hasAttribute(name)).map((name) => [name, node.getAttribute(name)]);
    if (spoken.length) english.set(node, spoken);
  }
  button.id = "language";
  button.onclick = () => { chosen = chosen === "zh" ? "en" : "zh"; keep(chosen); show(); dispatchEvent(new Event("language")); };
  main.prepend(button);
  show();
  return { t };
})();

if (document.getElementById("bars")) (() => {
  const t = language.t;
  const data = JSON.parse(document.getElementById("bars").textContent);
  const card = document.getElementById("prices"), box = document.getElementById("chart"), told = document.getElementById("told");
  const input = document.getElementById("symbol"), list = document.getElementById("symbols");
  const names = Object.keys(data.bars), scale = 10 ** data.decimals;
  const NS = "http://www.w3.org/2000/svg", HEIGHT = 220, VOLUME = 70, GUTTER = 76, EDGE = 20;
  const grouped = new Intl.NumberFormat("en-US"), number = (value) => grouped.format(value);
  const price = (value) => String(Number((value / scale).toFixed(data.decimals)));
  const clock = (minute) => {
    let at = minute + data.begins_minute;
    if (at > 1440 || (at === 1440 && data.begins_minute)) at -= 1440;
    return `${String(Math.floor(at / 60)).padStart(2, "0")}:${String(at % 60).padStart(2, "0")}`;
  };

  // Six numbers a bar: slots since the bar before; open since its close; high and low beyond open and close; close since
  // the open; volume.
  function barsOf(name) {
    const flat = data.bars[name], bars = [];
    let slot = 0, before = 0;
    for (let at = 0; at < flat.length; at += 6) {
      slot += flat[at];
      const open = before + flat[at + 1], close = open + flat[at + 4];
      bars.push({ minute: slot * data.slot_minutes, open, close, high: Math.max(open, close) + flat[at + 2],
        low: Math.min(open, close) - flat[at + 3], volume: flat[at + 5] });
      before = close;
    }
    return bars;
  }

  const make = (name, attributes, parent, text) => {
    const made = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  };

  function steps(low, high, most) {
    const raw = (high - low) / most || 1, unit = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((by) => by * unit).find((by) => by >= raw);
    const marks = [];
    for (let at = Math.ceil(low / step) * step; at <= high + step / 1e6; at += step) marks.push(at);
    return marks;
  }

  function draw(name) {
    const bars = barsOf(name), width = Math.max(box.clientWidth, 240), inner = width - GUTTER - EDGE;
    const x = (minute) => GUTTER + ((minute - data.first) / (data.last - data.first)) * inner;
    let low = Math.min(...bars.map((bar) => bar.low)), high = Math.max(...bars.map((bar) => bar.high));
    if (low === high) { low -= 1; high += 1; }
    const most = Math.max(...bars.map((bar) => bar.volume), 1);
    const y = (value) => 8 + (1 - (value - low) / (high - low)) * (HEIGHT - 16), base = HEIGHT + 14 + VOLUME;
    box.textContent = "";
    const svg = make("svg", { width, height: base + 22, role: "img", "aria-label": t(`price and volume of ${name}`) }, box);
    for (const [start, end] of data.breaks) make("rect", { class: "break", x: x(start), y: 0, width: x(end) - x(start), height: base }, svg);
    for (const mark of steps(low, high, 4)) {
      make("path", { class: "grid", d: `M${GUTTER} ${y(mark)}H${width - EDGE}` }, svg);
      make("text", { class: "tick", x: GUTTER - 6, y: y(mark) + 4, "text-anchor": "end" }, svg, price(mark));
    }
    make("path", { class: "grid", d: `M${GUTTER} ${base}H${width - EDGE}` }, svg);
    make("text", { class: "tick", x: GUTTER - 6, y: base - VOLUME + 9, "text-anchor": "end" }, svg, number(most));
    make("text", { class: "tick", x: GUTTER - 6, y: base, "text-anchor": "end" }, svg, t("volume"));
    const wide = Math.max(1, (inner * data.slot_minutes) / (data.last - data.first) - 0.5);
    let range = "", line = "", volume = "", last = null;
    for (const bar of bars) {
      const left = x(bar.minute), middle = left + wide / 2;
      range += `M${middle} ${y(bar.high)}V${y(bar.low) + 0.5}`;
      const isBroken = last === null || data.breaks.some(([start, end]) => last < end && bar.minute >= start);
      line += `${isBroken ? "M" : "L"}${middle} ${y(bar.close)}${isBroken ? "h1" : ""}`;
      const tall = Math.max(0.5, (bar.volume / most) * VOLUME);
      volume += `M${left} ${base}v-${tall}h${wide}v${tall}z`;
      last = bar.minute;
    }
    make("path", { class: "range", d: range, "stroke-width": Math.max(1, Math.min(wide, 5)) }, svg);
    make("path", { class: "line p50", d: line }, svg);
    make("path", { class: "bar", d: volume }, svg);
    const hours = [5, 10, 15, 30, 60, 120, 240, 480].find((step) => ((data.last - data.first) / step) * 52 <= inner) ?? 480;
    for (let at = Math.ceil((data.first + data.begins_minute) / hours) * hours - data.begins_minute; at <= data.last; at += hours) {
      make("text", { class: "tick", x: x(at), y: base + 16, "text-anchor": "middle" }, svg, clock(at));
    }
    const pointer = make("path", { class: "pointer", d: "" }, svg);
    const whole = t(`open ${price(bars[0].open)}, high ${price(high)}, low ${price(low)}, close ${price(bars[bars.length - 1].close)}, ` +
      `volume ${number(bars.reduce((sum, bar) => sum + bar.volume, 0))}`);
    told.textContent = whole;
    svg.onpointermove = (event) => {
      const minute = data.first + ((event.clientX - svg.getBoundingClientRect().left - GUTTER) / inner) * (data.last - data.first);
      const near = bars.reduce((best, bar) => (Math.abs(bar.minute + data.slot_minutes / 2 - minute) < Math.abs(best.minute + data.slot_minutes / 2 - minute) ? bar : best));
      pointer.setAttribute("d", `M${x(near.minute) + wide / 2} 0V${base}`);
      told.textContent = `${clock(near.minute)}: ${t(`open ${price(near.open)}, high ${price(near.high)}, low ${price(near.low)}, close ${price(near.close)}, volume ${number(near.volume)}`)}`;
    };
    svg.onpointerleave = () => { pointer.setAttribute("d", ""); told.textContent = whole; };
  }

  let shown = null;
  const bare = (text) => text.toUpperCase().replace(/^[A-Z]+\./, "").replace(/^0+/, "");
  function choose(text, isLink) {
    const given = text.trim();
    const name = names.find((known) => known === given) ?? names.find((known) => known.toUpperCase() === given.toUpperCase()) ??
      names.find((known) => bare(known) === bare(given));
    if (name === undefined) { if (!isLink) told.textContent = t(`no prices of ${given} are in this page`); return; }
    shown = input.value = name;
    draw(name);
    if (isLink) card.scrollIntoView();
  }
  if (!names.length) return;
  for (const name of names) list.append(Object.assign(document.createElement("option"), { value: name }));
  input.onchange = () => choose(input.value, false);
  input.onfocus = () => input.select();
  const linked = () => { try { return decodeURIComponent(location.hash.slice(1)); } catch { return ""; } };
  addEventListener("hashchange", () => { if (linked()) choose(linked(), true); });
  addEventListener("language", () => { if (shown !== null) draw(shown); });
  new ResizeObserver(() => { if (shown !== null) draw(shown); }).observe(box);
  card.hidden = false;
  choose(data.chosen, false);
  if (linked()) choose(linked(), true);
})();
