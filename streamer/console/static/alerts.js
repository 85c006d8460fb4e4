import { api, count, el, fill, poll, share, span, table, visible, waitsFor, watchHealth, when } from "./common.js";
import { ALERT_COLUMNS, alertRows } from "./alertrows.js";

const asked = { state: "firing", rule: "", search: "", page: "1", ...Object.fromEntries(new URLSearchParams(location.search)) };
const main = document.getElementById("main");
const parts = { health: el("div"), head: el("p", { class: "note", role: "status" }), list: el("div"), pages: el("nav", { class: "controls", "aria-label": "Pages of the table" }), ledger: el("div") };
const state = el("select", { id: "state" }, [["firing", "firing now"], ["resolved", "ended"], ["all", "all"]].map(([value, text]) => el("option", { value, selected: asked.state === value }, text)));
const rule = el("select", { id: "rule" }, el("option", { value: "" }, "all rules"));
const search = el("input", { type: "search", id: "search", value: asked.search, maxlength: 200, autocomplete: "off", spellcheck: "false" });
fill(main, el("h1", {}, "Alerts"), parts.health,
  el("div", { class: "controls" },
    el("div", {}, el("label", { for: "state" }, "Show"), state), el("div", {}, el("label", { for: "rule" }, "Rule"), rule),
    el("div", {}, el("label", { for: "search" }, "Flow contains (press /)"), search)),
  parts.head, el("section", { class: "card" }, parts.list, parts.pages),
  el("section", { class: "card" }, el("h2", {}, "Ledger: how often each rule was right"), parts.ledger));
watchHealth(parts.health);
const refresh = poll(update, 5);
state.addEventListener("change", () => go({ state: state.value, page: "1" }));
rule.addEventListener("change", () => go({ rule: rule.value, page: "1" }));
let typing = 0;
search.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => go({ search: search.value, page: "1" }), 200);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== search) { event.preventDefault(); search.focus(); }
});

function go(changes) {
  Object.assign(asked, changes);
  history.replaceState(null, "", "alerts?" + new URLSearchParams(asked));
  refresh();
}

async function update() {
  const found = await api("alerts", { ...asked });
  const names = found.rules.join("\n");
  if (rule.dataset.names !== names) {
    rule.dataset.names = names;
    fill(rule, el("option", { value: "" }, "all rules"), found.rules.map((each) => el("option", { value: each, selected: each === asked.rule }, visible(each))));
  }
  parts.head.textContent = `${count(found.firing)} firing; ${count(found.matched)} shown here.`;
  const none = !found.enabled && found.topic.state !== "following" ? "Alerts are off (alerts.enabled)."
    : found.topic.state !== "following" ? waitsFor(found.topic, "alerts")
      : asked.state === "firing" ? "No alert is firing." : "No alert matches.";
  fill(parts.list, table("Alerts", ALERT_COLUMNS, alertRows(found.alerts, found.now), none));
  const last = Math.max(1, Math.ceil(found.matched / found.size));
  fill(parts.pages, last > 1 ? [
    el("button", { class: "plain", type: "button", disabled: found.page <= 1, onclick: () => go({ page: String(found.page - 1) }) }, "◀ Previous"),
    el("span", {}, `page ${found.page} of ${count(last)}`),
    el("button", { class: "plain", type: "button", disabled: found.page >= last, onclick: () => go({ page: String(found.page + 1) }) }, "Next ▶")] : null);
  fill(parts.ledger, table("Counts over the time that the console keeps", [["rule"], ["raised", "n"], ["right", "n"], ["late", "n wide"], ["wrong", "n"], ["missed", "n"], ["precision", "n"], ["recall", "n"], ["mean lead", "n wide"]],
    found.ledger.map((r) => [visible(r.rule), count(r.raised), count(r.true), count(r.late), count(r.false), count(r.missed), share(r.precision), share(r.recall), span(r.lead_mean_s)]),
    "Waiting for the first verdict: an alert is judged when the time that it speaks of has passed."),
  el("p", { class: "note" }, "Precision is the share of judged alerts that came before what they predicted; recall is the share of passings that an alert preceded.",
    found.ledger_until ? " Until " : "", found.ledger_until ? when(found.ledger_until) : "", found.ledger_until ? "." : ""));
}
