import { api, chanceText, count, el, fill, flowLink, poll, rate, share, spark, span, visible, watchHealth } from "./common.js";

const SIZE = 50;
const COLUMNS = [
  ["flow", "Flow", "", "asc"], ["rate", "Rate", "n", "desc"], [null, "Recent", "wide"], ["error", "Error", "n wide", "desc"],
  ["skill", "Skill", "n wide", "asc"], ["coverage", "In band", "n wide", "asc"], ["chance", "Spike", "n", "desc"],
  ["unusual", "Unusual", "n", "desc"], [null, "Served by", "wide"],
];
const asked = { search: "", sort: "rate", order: "desc", page: "1", ...Object.fromEntries(new URLSearchParams(location.search)) };
const main = document.getElementById("main");
const health = el("div"), body = el("tbody"), count_ = el("p", { class: "note", role: "status" });
const search = el("input", { type: "search", id: "search", value: asked.search, maxlength: 200, autocomplete: "off", spellcheck: "false" });
const heads = new Map();
const row = el("tr", {}, COLUMNS.map(([key, name, kind, first]) => {
  const head = el("th", { scope: "col", class: kind }, key ? el("button", { type: "button", onclick: () => sortBy(key, first) }, name) : name);
  if (key) heads.set(key, head);
  return head;
}));
const pages = el("nav", { class: "controls", "aria-label": "Pages of the table" });
const holder = el("div", { class: "scroll flows", role: "region", tabindex: "0", "aria-label": "Table of flows" },
  el("table", {}, el("caption", { class: "visually-hidden" }, "Flows"), el("thead", {}, row), body));
const waiting = el("p", { class: "waiting", hidden: true });
const notes = el("details", {}, el("summary", {}, "What the columns mean"), el("dl"));

fill(main, el("h1", {}, "Flows"), health,
  el("div", { class: "controls" }, el("div", {}, el("label", { for: "search" }, "Search (press /)"), search)),
  count_, el("section", { class: "card" }, holder, waiting, pages), notes);
watchHealth(health);

const refresh = poll(update, 5);
let typing = 0;
search.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => go({ search: search.value, page: "1" }), 200);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== search) { event.preventDefault(); search.focus(); }
});

function sortBy(key, first) {
  const order = asked.sort === key ? (asked.order === "asc" ? "desc" : "asc") : first;
  go({ sort: key, order, page: "1" });
}

function go(changes) {
  Object.assign(asked, changes);
  history.replaceState(null, "", "flows?" + new URLSearchParams(asked));
  refresh();
}

async function update() {
  const found = await api("flows", { search: asked.search, sort: asked.sort, order: asked.order, page: asked.page, size: SIZE });
  for (const [key, head] of heads) {
    if (key === found.sort) head.setAttribute("aria-sort", found.order === "asc" ? "ascending" : "descending");
    else head.removeAttribute("aria-sort");
    const name = COLUMNS.find((each) => each[0] === key)[1];
    head.firstChild.textContent = name + (key === found.sort ? (found.order === "asc" ? " ▲" : " ▼") : "");
  }
  const ahead = span(found.ahead_s);
  describe(ahead);
  fill(body, found.rows.map((each) => line(each, ahead)));
  holder.hidden = !found.rows.length;
  waiting.hidden = Boolean(found.rows.length);
  waiting.textContent = found.flows ? `No name of ${count(found.flows)} flows contains “${visible(asked.search)}”.`
    : found.share < 1 ? `Reading the forecasts: ${share(found.share)} of what was there.`
      : "Waiting for the first forecast. A flow appears when its first step has closed.";
  const last = Math.max(1, Math.ceil(found.matched / found.size));
  count_.textContent = found.matched === found.flows ? `${count(found.flows)} flows` : `${count(found.matched)} of ${count(found.flows)} flows`;
  if (found.share < 1) count_.textContent += `, and ${share(found.share)} of the forecasts are read`;
  fill(pages,
    el("button", { class: "plain", type: "button", disabled: found.page <= 1, onclick: () => go({ page: String(found.page - 1) }) }, "◀ Previous"),
    el("span", {}, `page ${found.page} of ${count(last)}`),
    el("button", { class: "plain", type: "button", disabled: found.page >= last, onclick: () => go({ page: String(found.page + 1) }) }, "Next ▶"));
}

function line(each, ahead) {
  const away = each.unusual === null ? null : Math.abs(each.unusual);
  const odd = away === null ? "–" : `${each.unusual < 0 ? "▼" : "▲"} ${away.toFixed(away < 10 ? 1 : 0)}`;
  return el("tr", {},
    el("th", { scope: "row" }, flowLink(each.flow)),
    el("td", { class: "n nowrap" }, rate(each.rate, each.unit)),
    el("td", { class: "wide" }, spark(each.recent, `last ${each.recent.length} steps, now ${rate(each.rate, each.unit)}`)),
    el("td", { class: "n wide" }, share(each.error)),
    el("td", { class: "n wide" }, share(each.skill)),
    el("td", { class: "n wide" }, share(each.coverage)),
    el("td", { class: "n nowrap" + (each.chance >= 0.5 ? " bad" : each.chance >= 0.2 ? " some" : "") }, chanceText(each.chance)),
    el("td", { class: "n nowrap" + (away >= 2 ? " bad" : away >= 1 ? " some" : "") }, odd),
    el("td", { class: "wide" }, `${visible(each.served_by)}, ${each.generation}`));
}

function describe(ahead) {
  const meanings = [
    ["Rate", "of the step that closed last."],
    ["Error", `mean distance of the median, forecast ${ahead} before, from the rate, over the flow's mean rate; memory of a day.`],
    ["Skill", `1 − that error over the error of repeating the value of ${ahead} before: above 0 is better.`],
    ["In band", `share of rates within the outermost quantiles, forecast ${ahead} before.`],
    ["Spike", `chance that the highest rate within ${ahead} is above twice the recent high, which fades over a day.`],
    ["Unusual", "distance of the rate from the median forecast one step before; 1 is the edge of the band, ▲ above, ▼ below."],
  ];
  if (notes.lastChild.childElementCount === 0) {
    fill(notes.lastChild, meanings.flatMap(([name, text]) => [el("dt", {}, el("strong", {}, name)), el("dd", {}, text)]));
  }
}
