import { about, ago, api, bar, bytes, count, el, fill, hidden, poll, share, table, tile, visible, waitsFor, watchHealth, when } from "./common.js";

const main = document.getElementById("main");
const parts = { health: el("div"), tiles: el("dl", { class: "tiles" }), verdicts: el("div"), lags: el("div"), rejects: el("div"), sample: el("div") };
fill(main, el("h1", {}, "Input"), parts.health, parts.tiles,
  el("div", { class: "grid" },
    el("section", { class: "card" }, el("h2", {}, "Readings"), parts.verdicts),
    el("section", { class: "card" }, el("h2", {}, "Lag by partition"), parts.lags)),
  el("section", { class: "card" }, el("h2", {}, "Rejects"), parts.rejects, parts.sample));
watchHealth(parts.health);

const MEANINGS = {
  rated: "bounds an interval that has a rate", wrapped: "the counter wrapped", first: "nothing to compare with yet", duplicate: "same time and value as before",
  late: "older than what is known", reset: "the counter restarted", gap: "too far from the previous one", absurd: "faster than any link",
  held: "does not fit: the next reading decides", odd: "was held, and the next reading agreed with those before",
};

poll(async () => {
  const i = await api("input");
  const rejects = Object.entries(i.rejects), total = rejects.reduce((sum, [, n]) => sum + n, 0);
  const lag = Object.values(i.lags).reduce((a, b) => a + b, 0);
  const invalid = Object.values(i.invalid).reduce((a, b) => a + b, 0);
  fill(parts.tiles,
    tile("Topics", i.pattern === null ? i.inputs.map(visible).join(", ") : visible(i.pattern), i.pattern === null ? `format ${visible(i.format)}` : "a pattern of names"),
    tile("Records", count(i.messages), "since the forecasters started"),
    tile("Readings", count(i.readings), i.skipped ? `${count(i.skipped)} elements without traffic skipped` : "nothing skipped"),
    tile("Not readings", count(invalid), i.messages ? `${share(invalid / Math.max(1, i.readings + invalid), 2)} of what was read` : null),
    tile("Unread records", count(lag), `in ${Object.keys(i.lags).length} partitions`));
  const every = Object.values(i.verdicts).reduce((a, b) => a + b, 0);
  fill(parts.verdicts, table("What readings say of the previous one of their flow", [["verdict"], ["readings", "n"], ["share", "n"], ["meaning", "wide"]],
    Object.entries(i.verdicts).sort((a, b) => b[1] - a[1]).map(([name, n]) => [visible(name), count(n), share(n / every, 1), MEANINGS[name] ?? ""]),
    "Waiting for the first report of a forecaster (metrics.every)."));
  const lags = Object.entries(i.lags).sort((a, b) => b[1] - a[1]).slice(0, 50);
  const most = Math.max(1, ...lags.map(([, n]) => n));
  fill(parts.lags, table("The partitions that are furthest behind", [["partition"], ["records", "n"], ["behind by", "n"], [hidden("as a bar"), "wide"]],
    lags.map(([name, n]) => [visible(name), count(n), name in i.lags_s ? about(i.lags_s[name]) : "–", bar(n / most)]),
    "Waiting for the first report of a forecaster (metrics.every)."));
  const nothing = i.topic.state === "following" ? "Nothing was rejected in the time that the console keeps." : waitsFor(i.topic, "rejects");
  fill(parts.rejects, table(`${count(total)} rejects that the console has read, by reason`, [["reason"], ["number", "n"], ["share", "n"], [hidden("as a bar"), "wide"]],
    rejects.map(([name, n]) => [visible(name), count(n), share(n / total, 1), bar(n / total)]), nothing));
  fill(parts.sample, i.sample.length ? table("A sample: the newest, and the newest of each reason", [["at"], ["reason"], ["where", "wide"], ["what"]],
    i.sample.map((r) => [el("span", {}, when(r.at, false), el("span", { class: "note" }, ` ${ago(r.at, i.now)}`)), visible(r.reason),
      visible(r.place), el("div", {}, r.detail ? el("p", { class: "note" }, visible(r.detail)) : null, el("pre", { class: "mono" }, visible(r.value) || "(empty)"), el("span", { class: "note" }, bytes(r.size)))]), "") : null);
}, 5);
