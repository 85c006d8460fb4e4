import { about, ago, api, bytes, count, el, fill, poll, sentence, severity, share, span, table, tile, visible, when } from "./common.js";
import { shareChart } from "./charts.js";

const main = document.getElementById("main");
const charts = [el("div", { class: "chart low" }), el("div", { class: "chart low" })];
const parts = { head: el("div"), tiles: el("dl", { class: "tiles" }), findings: el("div"), scores: el("div"),
  figure: el("div", { hidden: true }, charts.map((each) => el("figure", {}, each, el("figcaption", {}, "")))), instances: el("div"), topics: el("div") };

fill(main,
  el("h1", {}, "Overview"), parts.head, parts.tiles, parts.findings,
  el("div", { class: "grid" },
    el("section", { class: "card" }, el("h2", {}, "How good the forecasts are"), parts.figure, parts.scores),
    el("section", { class: "card" }, el("h2", {}, "What the console has read"), parts.topics)),
  el("section", { class: "card" }, el("h2", {}, "Instances"), parts.instances));

poll(async () => {
  const s = await api("status");
  fill(parts.head, sentence({ severity: s.severity, text: s.sentence }, true));
  const others = s.findings.slice(1);
  fill(parts.findings, others.length ? el("section", { class: "card" }, el("h2", {}, "Also worth knowing"),
    el("ul", { class: "findings" }, others.map((each) => el("li", {}, severity(each.severity), " ",
      el("a", { href: each.page }, visible(each.text)))))) : null);
  tiles(s);
  await scores(s);
  instances(s);
  topics(s);
}, 5);

function tiles(s) {
  const nearest = s.horizons.reduce((a, b) => (!a || Math.abs(b.ahead_s - s.ahead_s) < Math.abs(a.ahead_s - s.ahead_s) ? b : a), null);
  const ahead = nearest ? `${span(nearest.ahead_s)} ahead` : "no scores yet";
  const forecasters = s.instances.filter((each) => each.role === "forecaster");
  const lag = forecasters.length ? forecasters.reduce((sum, each) => sum + (each.lag ?? 0), 0) : null;
  const late = Math.max(0, ...forecasters.map((each) => each.lag_s ?? 0));
  const speed = forecasters.reduce((sum, each) => sum + (each.forecasts_per_s ?? 0), 0);
  const firing = Object.values(s.alerts).reduce((a, b) => a + b, 0);
  const rejects = Object.entries(s.rejects);
  fill(parts.tiles,
    tile("Flows", count(s.flows), speed ? `${count(speed)} forecasts/s` : null),
    tile("Newest step", s.made_at ? when(s.made_at, false) : "–", s.made_at ? "in steps of " + span(s.step_s) : "no step has closed"),
    tile("In their bands", share(nearest?.coverage, 1), nearest ? `${share(s.coverage_min)} to ${share(s.coverage_max)} wanted` : ahead),
    tile("Error of the median", share(nearest?.error, 1), nearest ? "of the usual rate, " + ahead : ahead),
    tile("Better than last value", share(nearest?.skill_last, 1), ahead),
    tile("Lag", lag === null ? "–" : count(lag), lag === null ? "no forecaster has reported" : `records, ${about(late)} at most`),
    tile("Alerts firing", String(firing), firing ? Object.entries(s.alerts).map(([name, n]) => `${n} ${visible(name)}`).join(", ") : "none"),
    tile("Rejects", count(rejects.reduce((sum, [, n]) => sum + n, 0)), rejects.length ? `most: ${rejects[0][0]}` : "none"));
}

async function scores(s) {
  const waits = "Waiting for the end of the first period that is scored (scores.every).";
  fill(parts.scores, table("All flows, by how far ahead", [["ahead"], ["in the 90 % band", "n"], ["error", "n"], ["vs. last value", "n"], ["vs. best baseline", "n wide"]],
    s.horizons.map((h) => [span(h.ahead_s), share(h.coverage, 1), share(h.error, 1), share(h.skill_last, 1), share(h.skill, 1)]), waits));
  parts.figure.hidden = s.periods.length < 2;
  if (s.periods.length < 2) return;
  const last = s.periods[s.periods.length - 1];
  const times = s.periods.map((p) => p.ends_at), ahead = span(last.ahead_s);
  charts[0].nextSibling.textContent = `Share of rates in the 90 % band ${ahead} ahead, by period; it should lie within the shaded range.`;
  charts[1].nextSibling.textContent = `Error of the median over the usual rate, ${ahead} ahead.`;
  const covered = s.periods.map((p) => p.coverage);
  const low = Math.min(s.coverage_min - 0.03, ...covered), high = Math.max(s.coverage_max + 0.03, ...covered);
  await shareChart(charts[0], times, [{ name: "in the band", values: covered }], [s.coverage_min, s.coverage_max], { range: [Math.max(0, low), Math.min(1, high)] });
  await shareChart(charts[1], times, [{ name: "error", values: s.periods.map((p) => p.error) }], null, { rangemode: "tozero" });
}

function instances(s) {
  fill(parts.instances, table("Processes that report on the metrics topic",
    [["instance"], ["role"], ["state"], ["partitions", "wide"], ["lag", "n"], ["flows", "n"], ["readings/s", "n wide"], ["generation", "n wide"], ["memory", "n wide"], ["version", "wide"]],
    s.instances.map((each) => [visible(each.name), visible(each.role),
      each.silent ? el("span", { class: "bad" }, `▲ silent, ${ago(each.seen_at, s.now)}`) : visible(each.phase || "running"),
      partitions(each.partitions), each.lag === null ? "–" : `${count(each.lag)}${each.lag_s ? ` (${about(each.lag_s)})` : ""}`,
      count(each.flows), count(each.readings_per_s), count(each.generation), bytes(each.memory_bytes), visible(each.version)]),
    "Waiting for the first report of a process: each reports every metrics.every."));
}

/** Partitions of each topic as ranges: traffic.counters 0–3, 7. */
function partitions(lags) {
  const byTopic = new Map();
  for (const name of Object.keys(lags)) {
    const at = name.lastIndexOf("/");
    const topic = name.slice(0, at);
    byTopic.set(topic, [...(byTopic.get(topic) ?? []), Number(name.slice(at + 1))]);
  }
  return [...byTopic].map(([topic, numbers]) => `${visible(topic)} ${ranges(numbers)}`).join("; ") || "none";
}

function ranges(numbers) {
  const found = [];
  for (const n of numbers.sort((a, b) => a - b)) {
    const last = found[found.length - 1];
    if (last && last[1] === n - 1) last[1] = n; else found.push([n, n]);
  }
  return found.map(([a, b]) => (a === b ? String(a) : `${a}–${b}`)).join(", ");
}

const STATES = { starting: "starting", missing: "does not exist", unavailable: "cannot be read", catching_up: "catching up", following: "up to date" };

function topics(s) {
  fill(parts.topics, table("Topics", [["topic"], ["state"], ["records", "n"], ["newest", "wide"], ["not usable", "n wide"]],
    s.topics.map((t) => [visible(t.topic), state(t), count(t.records), t.newest ? ago(t.newest, s.now) : "–",
      count(Object.values(t.ignored).reduce((a, b) => a + b, 0))]), "none"));
}

function state(t) {
  const text = STATES[t.state] ?? t.state;
  if (t.state === "catching_up") return el("span", {}, text, " ", el("progress", { max: 1, value: t.share, "aria-label": `${t.topic} read` }), " ", share(t.share));
  if (t.state === "unavailable") return el("span", { class: "bad" }, "▲ " + text);
  return text;
}
