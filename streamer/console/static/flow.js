import { ago, api, bar, chanceText, count, el, fill, hidden, flowName, poll, rate, share, span, table, tile, visible, watchHealth, when } from "./common.js";
import { flowChart } from "./charts.js";
import { alertRows, ALERT_COLUMNS } from "./alertrows.js";
import { showState } from "./gates.js";

const name = new URLSearchParams(location.search).get("name") ?? "";
const main = document.getElementById("main");
document.title = `${visible(name)} – streamer`;

const chart = el("div", { class: "chart" });
const caption = el("figcaption");
const legend = el("p", { class: "legend" });
const parts = { health: el("div"), waiting: el("p", { class: "waiting" }, "Loading …"), facts: el("dl", { class: "tiles" }), peaks: el("div"), alerts: el("div"), state: el("div") };
const details = el("details", { ontoggle: () => { if (details.open) readState(); } },
  el("summary", {}, "Memory: the gates of the LSTM over the last steps, and the saved row"), parts.state);
const rest = el("div", { hidden: true }, parts.facts,
  el("section", { class: "card" }, el("h2", {}, "Rates and forecasts"), legend, el("figure", {}, chart, caption)),
  el("div", { class: "grid" },
    el("section", { class: "card" }, el("h2", {}, "How high it may get"), parts.peaks),
    el("section", { class: "card" }, el("h2", {}, "Alerts"), parts.alerts)),
  el("section", { class: "card" }, details));
fill(main, el("p", { class: "note" }, el("a", { href: "flows" }, "Flows")), el("h1", {}, name ? flowName(name) : "No flow is named"), parts.health, parts.waiting, rest);
watchHealth(parts.health);

if (name) poll(update, 3);
else parts.waiting.textContent = "Choose one in the table of flows.";

let made = 0;

async function update() {
  let f;
  try {
    f = await api("flow", { name });
  } catch (error) {
    if (error.status !== 404) throw error;
    const s = await api("status");
    const topic = s.topics.find((each) => each.role === "forecasts");
    parts.waiting.hidden = false;
    parts.waiting.textContent = topic.state === "catching_up" ? `Reading the forecasts: ${share(topic.share)} of what was there.`
      : `Waiting for a forecast of this flow on ${topic.topic}: none has come in the time that the console keeps.`;
    return;
  }
  parts.waiting.hidden = true;
  rest.hidden = false;
  facts(f);
  peaks(f);
  alerts(f);
  const ahead = span(f.ahead_s);
  fill(legend, el("span", { class: "was" }, "rate"), el("span", { class: "before" }, `predicted ${ahead} before, with its ${bandName(f)}`),
    el("span", { class: "ahead" }, `forecast, with its ${f.quantiles.length > 3 ? "50 % band and " : ""}${bandName(f)}`));
  caption.textContent = `${f.rates.length} steps of ${span(f.step_s)}; the rate is ${rate(f.rate, f.unit)}, and ` +
    `${span(f.step_s * f.quantiles[0].rates.length)} ahead the median is ${rate(median(f).at(-1), f.unit)}.`;
  await flowChart(chart, f);
  made = f.made_at;
}

function bandName(f) {
  return `${Math.round((f.levels[2] - f.levels[0]) * 100)} % band`;
}

function median(f) {
  return f.quantiles.reduce((a, b) => (Math.abs(b.level - 0.5) < Math.abs(a.level - 0.5) ? b : a)).rates;
}

function facts(f) {
  const ahead = span(f.ahead_s);
  const away = f.unusual === null ? "–" : `${f.unusual < 0 ? "▼" : "▲"} ${Math.abs(f.unusual).toFixed(1)}`;
  fill(parts.facts,
    tile("Rate", rate(f.rate, f.unit), el("span", {}, "of the step to ", when(f.made_at, false))),
    tile("Usual rate", rate(f.mean, f.unit), `recent high ${rate(f.high, f.unit)}`),
    tile("Unusual now", away, f.unusual === null ? "no forecast of this step was read" : "1 is the edge of its band"),
    tile("Spike", chanceText(f.chance), `within ${ahead}, above twice the high`),
    tile(`Error ${ahead} ahead`, share(f.error), f.scored ? `of its mean, ${count(f.scored)} steps` : "nothing to compare yet"),
    tile("Better than last value", share(f.skill), `${ahead} ahead`),
    tile("In its band", share(f.coverage), `${bandName(f)}, ${ahead} ahead`),
    tile("Served by", visible(f.served_by), `generation ${f.generation}`));
}

function peaks(f) {
  const head = [["peak within"], ...(f.peaks[0]?.levels ?? []).map((level) => [level === 0.5 ? "median" : `${level * 100} %`, level === 0.75 ? "n wide" : "n"])];
  fill(parts.peaks,
    table(`Chance that the highest rate within ${span(f.ahead_s)} is above …`, [["threshold"], ["rate", "n"], ["chance", "n"], [hidden("as a bar"), "wide"]],
      f.chances.map((c) => [visible(c.name), rate(c.rate, f.unit), chanceText(c.chance), bar(c.chance)]), "Waiting for a rate of this flow."),
    table("The highest rate, below which it stays with a chance of …", head,
      f.peaks.map((p) => [span(p.span_s), ...p.rates.map((value) => rate(value, f.unit))]), "Peaks are not published (forecasts.peaks)."));
}

function alerts(f) {
  const verdicts = Object.entries(f.verdicts).map(([verdict, n]) => `${n} ${verdict}`).join(", ");
  fill(parts.alerts, verdicts ? el("p", { class: "note" }, `Verdicts of its alerts: ${verdicts}.`) : null,
    table("Newest first", ALERT_COLUMNS.map(([name]) => [name === "flow and why" ? "why" : name]), alertRows(f.alerts, f.now, false), "No alert of this flow was raised in the time that the console keeps."));
}

let reading = false;

async function readState() {
  if (reading) return;
  reading = true;
  fill(parts.state, el("p", { class: "waiting", role: "status" }, "Reading the saved row from the state topic; this takes some seconds …"));
  try {
    showState(parts.state, await api("flow/state", { name }), made);
  } catch (error) {
    fill(parts.state, el("p", { class: "waiting" }, `The saved row was not read: ${visible(error.message)}`));
  }
  fill(parts.state, ...parts.state.childNodes, el("p", {}, el("button", { class: "plain", type: "button", onclick: readState }, "Read again")));
  reading = false;
}
