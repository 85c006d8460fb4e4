import { ago, api, bytes, count, el, fill, poll, share, span, table, tile, visible, waitsFor, watchHealth, when } from "./common.js";

const main = document.getElementById("main");
const parts = { health: el("div"), tiles: el("dl", { class: "tiles" }), scores: el("div"), contests: el("div"), rollbacks: el("div"), changes: el("div"), weights: el("div") };
fill(main, el("h1", {}, "Models"), parts.health, parts.tiles,
  el("section", { class: "card" }, el("h2", {}, "Generations on live traffic: before and after"), parts.scores),
  el("section", { class: "card" }, el("h2", {}, "Contests of challengers"), parts.contests),
  el("div", { class: "grid" },
    el("section", { class: "card" }, el("h2", {}, "Which generation served"), parts.changes),
    el("section", { class: "card" }, el("h2", {}, "Rollbacks"), parts.rollbacks)));
watchHealth(parts.health);

function signed(value, digits = 2) {
  return value === null || value === undefined ? "–" : `${value < 0 ? "−" : "+"}${(Math.abs(value) * 100).toFixed(digits)} %`;
}

poll(async () => {
  const m = await api("models");
  const serving = m.incumbent ?? { generation: 0, reason: "shipped" };
  const left = Object.values(m.rollouts).reduce((a, b) => a + b, 0);
  const last = m.contests[0];
  fill(parts.tiles,
    tile("Serving", `generation ${serving.generation}`, m.incumbent ? `${visible(serving.reason)}, instead of ${serving.previous}` : "the weights of the settings"),
    tile("Rollout", left ? `${count(left)} pages` : "complete", left ? "not yet of the new generation" : Object.keys(m.rollouts).length ? "all pages are of one generation" : "no forecaster has reported"),
    tile("Last contest", last ? visible(last.verdict) : "–", last ? `gain ${signed(last.gain)} on ${count(last.flows)} flows` : "none was held"),
    tile("Trainer", m.trainer ? "on" : "off", m.trainer ? `a challenger every ${span(m.every_s)} of event time` : "trainer.enabled is false"),
    tile("Kept weights", String(Object.keys(m.weights).length), bytes(Object.values(m.weights).reduce((a, b) => a + b, 0))));
  const none = m.topic.state === "following" ? (m.trainer ? `No challenger was trained yet. One is every ${span(m.every_s)} of event time, or when forecasts have become worse.` : "No challenger is trained: trainer.enabled is false.") : waitsFor(m.topic, "contests");
  fill(parts.scores, table("All flows, an hour ahead or nearest to it", [["generation"], ["from", "wide"], ["until"], ["forecasts", "n wide"], ["in the 90 % band", "n"], ["error", "n"], ["against last value", "n"]],
    m.scores.map((s) => [String(s.generation), when(s.from_at), when(s.until_at), count(s.forecasts), share(s.coverage, 1), share(s.error, 1), share(s.skill_last, 1)]),
    "Waiting for the end of the first period that is scored (scores.every)."));
  fill(parts.contests, table("Newest first; a gain is the share of the incumbent's loss that the challenger saves", [["generation"], ["verdict"], ["reason"], ["gain", "n"], ["its range", "n wide"], ["loss", "n wide"], ["in band", "n wide"], ["flows", "n wide"], ["worst class", "wide"], ["took", "n wide"]],
    m.contests.map((c) => [String(c.generation), c.verdict === "promoted" ? el("strong", {}, "▲ promoted") : visible(c.verdict), visible(c.reason), signed(c.gain), `${signed(c.gain_low)} … ${signed(c.gain_high)}`,
      `${c.loss_challenger.toFixed(4)} for ${c.loss_incumbent.toFixed(4)}`, `${share(c.coverage_challenger, 1)} for ${share(c.coverage_incumbent, 1)}`, count(c.flows), `${visible(c.class_worst)} ${signed(c.class_gain)}`, span(c.seconds)]), none));
  fill(parts.changes, table("Newest first", [["generation"], ["reason"], ["instead of", "n"], ["at"]],
    m.changes.map((c) => [String(c.incumbent.generation), visible(c.incumbent.reason), String(c.incumbent.previous), el("span", {}, when(c.at), el("span", { class: "note" }, ` ${ago(c.at, m.now)}`))]),
    m.topic.state === "following" ? "Generation 0, the weights of the settings, has served all along." : waitsFor(m.topic, "generations")));
  fill(parts.rollbacks, table("Generations that did worse on live traffic", [["generation"], ["restored", "n"], ["reason"], ["gain", "n"], ["flows", "n"]],
    m.rollbacks.map((r) => [String(r.generation), String(r.restored), visible(r.reason), signed(r.gain), count(r.flows)]), "No generation was rolled back."));
}, 5);
