// What all pages share: elements, numbers and times as people write them, polling, the header.
// Text from the log only ever becomes a text node or an attribute's value: never markup.

const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb]/g;
const SIGNS = { ok: "✔ OK", info: "ℹ Note", warning: "▲ Warning", critical: "■ Critical" };
const PAGES = [["./", "Overview", "overview"], ["flows", "Flows", "flows"], ["alerts", "Alerts", "alerts"],
  ["models", "Models", "models"], ["input", "Input", "input"]];

/** An element with properties, attributes and children; a string child is text. */
export function el(tag, attributes = {}, ...children) {
  const made = tag.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4))
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.flat().filter((each) => each !== null && each !== undefined && each !== false));
  return made;
}

/** Replace what *parent* contains. */
export function fill(parent, ...children) {
  parent.replaceChildren(...children.flat().filter(Boolean));
}

/** Foreign text in one line, characters that cannot be seen as escapes. */
export function visible(text) {
  return String(text).replace(UNSEEN, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
}

/** A flow's name, whose direction of writing changes nothing around it. */
export function flowName(name) {
  return el("bdi", { class: "name" }, visible(name));
}

export function flowLink(name) {
  return el("a", { href: "flow?name=" + encodeURIComponent(name) }, flowName(name));
}

const PREFIXES = ["", "k", "M", "G", "T", "P", "E"];

function scaled(value) {
  let size = Math.abs(value), nth = 0;
  while (size >= 999.5 && nth < PREFIXES.length - 1) { size /= 1000; nth += 1; }
  const digits = size < 9.995 ? 2 : size < 99.95 ? 1 : 0;
  const text = size === 0 ? "0" : nth === 0 && Number.isInteger(size) ? String(size) : size.toFixed(digits);
  return [(value < 0 ? "−" : "") + text, PREFIXES[nth]];
}

/** What a value is divided by to be written with a prefix, and the prefix. */
export function prefixOf(value) {
  let size = 1, nth = 0;
  while (value / size >= 999.5 && nth < PREFIXES.length - 1) { size *= 1000; nth += 1; }
  return [size, PREFIXES[nth]];
}

/** The factor and the unit in which people write a rate. */
export function written(unit) {
  if (unit === "B/s") return [8, "bit/s"];
  if (unit === "b/s") return [1, "bit/s"];
  return [1, unit];
}

/** A rate with three digits: 12.3 Mbit/s. */
export function rate(value, unit) {
  if (value === null || value === undefined) return "–";
  const [factor, name] = written(unit);
  const [text, prefix] = scaled(value * factor);
  return `${text} ${prefix}${visible(name)}`.trim();
}

export function count(value) {
  if (value === null || value === undefined) return "–";
  if (Math.abs(value) < 100000) return (Math.abs(value) < 10 && value % 1 ? value.toFixed(1) : Math.round(value).toLocaleString("en"));
  const [text, prefix] = scaled(value);
  return text + " " + prefix;
}

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const [text, prefix] = scaled(value);
  return `${text} ${prefix}B`;
}

export function share(value, digits = null) {
  if (value === null || value === undefined) return "–";
  const text = (value * 100).toFixed(digits ?? (value && Math.abs(value) < 0.0995 ? 1 : 0));
  return text.replace("-", "−") + " %";
}

export function chanceText(value) {
  if (value === null || value === undefined) return "–";
  if (value <= 0.01) return "< 1 %";
  return share(value);
}

/** A duration in its largest fitting unit. */
export function span(seconds, digits = 3) {
  if (seconds === null || seconds === undefined) return "–";
  for (const [length, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= 2 * length || seconds === length) return `${Number((seconds / length).toPrecision(digits))} ${unit}`;
  }
  return `${Number(seconds.toPrecision(digits))} s`;
}

/** A duration to two digits. */
export function about(seconds) {
  return span(Math.max(0, seconds), 2);
}

let utc = localStorage.getItem("utc") === "1";

/** Epoch seconds as an ISO time of the chosen zone, for charts. */
export function isoTime(seconds) {
  const at = new Date(seconds * 1000);
  const moved = utc ? at : new Date(at.getTime() - at.getTimezoneOffset() * 60000);
  return moved.toISOString().slice(0, 19);
}

export function zone() { return utc ? "UTC" : "local time"; }

/** Epoch seconds as a time element: the chosen zone is shown, the other one is its title. */
export function when(seconds, withDate = true) {
  if (seconds === null || seconds === undefined || !seconds) return el("span", {}, "–");
  const at = new Date(seconds * 1000);
  const first = isoTime(seconds).replace("T", " ");
  const text = withDate ? first : first.slice(11);
  const other = utc ? "local: " + at.toLocaleString("sv") : "UTC: " + at.toISOString().slice(0, 19).replace("T", " ");
  return el("time", { datetime: at.toISOString(), title: other, class: "nowrap" }, text);
}

export function ago(seconds, now) {
  const age = now - seconds;
  return age < 1 ? "now" : `${about(age)} ago`;
}

/** A small line of recent values; null is a gap. */
export function spark(values, label) {
  const known = values.filter((each) => each !== null);
  if (known.length < 2) return el("span", { class: "muted" }, "…");
  const top = Math.max(...known), low = Math.min(0, ...known), height = top - low || 1;
  let path = "", pen = "M";
  values.forEach((value, place) => {
    if (value === null) { pen = "M"; return; }
    const x = (place / (values.length - 1)) * 100, y = 29 - ((value - low) / height) * 28;
    path += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
  });
  return el("svg:svg", { class: "spark", viewBox: "0 0 100 30", preserveAspectRatio: "none", role: "img", "aria-label": label },
    el("svg:path", { d: path }));
}

/** A bar of 0 to 1; the number stands beside it. */
export function bar(value) {
  const width = Math.max(0, Math.min(1, value ?? 0)) * 100;
  return el("svg:svg", { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    el("svg:rect", { class: "back", width: 100, height: 10 }), el("svg:rect", { class: "fill", width, height: 10 }));
}

/** A table: *columns* are [heading, class]; *rows* are lists of cells, the first is a heading. */
export function table(caption, columns, rows, empty) {
  if (!rows.length) return el("p", { class: "waiting" }, empty);
  return el("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": caption },
    el("table", {}, el("caption", {}, caption),
      el("thead", {}, el("tr", {}, columns.map(([name, kind]) => el("th", { scope: "col", class: kind }, name)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell, place) => place === 0
        ? el("th", { scope: "row", class: columns[0][1] }, cell)
        : el("td", { class: columns[place][1] }, cell)))))));
}

/** Text for those who do not see the page. */
export function hidden(text) {
  return el("span", { class: "visually-hidden" }, text);
}

export function tile(name, value, note) {
  return el("div", { class: "tile" }, el("dt", {}, name), el("dd", {}, value, note ? el("span", { class: "note" }, note) : null));
}

export function severity(name) {
  return el("span", { class: `sign s-${name in SIGNS ? name : "info"}` }, SIGNS[name] ?? visible(name));
}

export function sentence(found, big) {
  return el("p", { class: `sentence ${found.severity}${big ? " big" : ""}`, role: "status" },
    el("span", { class: "sign" }, SIGNS[found.severity]), el("span", {}, visible(found.text)));
}

/** What a topic without data waits for. */
export function waitsFor(topic, what) {
  if (topic.state === "missing") return `Waiting for ${what}: the topic ${topic.topic} does not exist.`;
  if (topic.state === "unavailable") return `Waiting for the log: ${visible(topic.reason)}`;
  if (topic.state !== "following") return `Reading ${topic.topic}: ${share(topic.share)} of what was there.`;
  return `Waiting for ${what} on ${topic.topic}.`;
}

/** The JSON of an operation of the API; throws an Error with its reason. */
export async function api(path, parameters = {}) {
  const query = new URLSearchParams(parameters).toString();
  const answer = await fetch(`api/v1/${path}${query ? "?" + query : ""}`, { headers: { accept: "application/json" } });
  const body = await answer.json();
  if (!answer.ok) {
    const error = new Error(body.error);
    error.status = answer.status;
    throw error;
  }
  return body;
}

const shown = { at: 0 };

/** Call *work* now and every *seconds*, while the page is looked at. Returns a call for at once. */
export function poll(work, seconds) {
  let timer = 0, running = false, again = false;
  async function round() {
    if (running) { again = true; return; }
    clearTimeout(timer);
    running = true;
    try {
      await work();
      shown.at = Date.now();
      offline("");
    } catch (error) {
      offline(error instanceof TypeError ? "The console does not answer." : error.message);
    }
    running = false;
    if (again) { again = false; round(); return; }
    if (!document.hidden) timer = setTimeout(round, seconds * 1000);
  }
  document.addEventListener("visibilitychange", () => { if (!document.hidden) round(); });
  zoneListeners.push(round);
  round();
  return round;
}

const zoneListeners = [];
const banner = el("p", { class: "offline", role: "alert", hidden: true });

function offline(text) {
  banner.hidden = !text;
  const since = shown.at ? ` What you see is of ${new Date(shown.at).toLocaleTimeString("sv")}.` : "";
  if (text) banner.textContent = visible(text) + since;
}

function header() {
  const here = document.body.dataset.page;
  const clock = el("span", {});
  const toggle = el("button", { class: "plain", type: "button", onclick: () => {
    utc = !utc;
    localStorage.setItem("utc", utc ? "1" : "0");
    tick();
    zoneListeners.forEach((each) => each());
  } });
  function tick() {
    clock.textContent = isoTime(Date.now() / 1000).slice(11) + " ";
    toggle.textContent = utc ? "UTC" : "Local time";
    toggle.setAttribute("aria-label", `Times are ${zone()}; switch`);
  }
  tick();
  setInterval(tick, 1000);
  document.body.prepend(
    el("a", { class: "skip", href: "#main" }, "Skip to content"),
    el("header", { class: "top" },
      el("a", { class: "brand", href: "./" }, "streamer"),
      el("nav", { "aria-label": "Pages" }, el("ul", {}, PAGES.map(([href, name, page]) => el("li", {},
        el("a", { href, "aria-current": page === here || (here === "flow" && page === "flows") ? "page" : null }, name))))),
      el("div", { class: "clock" }, clock, toggle)),
    banner);
}

/** The sentence on the service's health, on pages that are not about it. */
export function watchHealth(place) {
  poll(async () => {
    const found = await api("status");
    const text = found.severity === "ok" ? null : sentence({ severity: found.severity, text: found.sentence });
    fill(place, text);
  }, 10);
}

header();
