import { ago, chanceText, el, flowLink, rate, severity, span, visible, when } from "./common.js";

export const ALERT_COLUMNS = [["alert"], ["flow and why"], ["since"], ["state"]];
const VERDICTS = { open: "not judged yet", true: "was right", late: "came late", false: "was wrong" };

function note(...children) {
  return el("span", { class: "note line" }, ...children);
}

/** Rows of alerts for a table with ALERT_COLUMNS. */
export function alertRows(alerts, now, withFlow = true) {
  return alerts.map((a) => [
    el("span", {}, severity(a.severity), note(visible(a.rule))),
    el("span", {}, withFlow ? flowLink(a.flow) : null, note(what(a))),
    el("span", {}, ago(a.since, now), note(when(a.since))),
    el("span", {}, a.state === "firing" ? el("strong", {}, "firing") : visible(a.state),
      a.verdict ? note(VERDICTS[a.verdict] ?? visible(a.verdict), a.verdict === "true" && a.lead_s !== null ? `, ${span(a.lead_s)} before` : "") : null),
  ]);
}

function what(a) {
  const parts = [];
  if (a.threshold) parts.push(`threshold ${rate(a.threshold, a.unit)}`);
  if (a.chance !== null) parts.push(`chance ${chanceText(a.chance)} within ${span(a.within_s)}`);
  if (a.rate !== null) parts.push(`rate ${rate(a.rate, a.unit)}`);
  if (a.usual) parts.push(`usually ${rate(a.usual, a.unit)}`);
  return parts.join(", ") || visible(a.reason);
}
