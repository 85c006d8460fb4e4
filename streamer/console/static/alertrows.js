import { ago, chanceText, el, flowLink, rate, severity, span, visible, when } from "./common.js";

export const ALERT_COLUMNS = [["severity"], ["rule"], ["flow"], ["since"], ["what", ""], ["state"]];
const VERDICTS = { open: "verdict open", true: "was right", late: "came late", false: "was wrong" };

/** Rows of alerts for a table with ALERT_COLUMNS. */
export function alertRows(alerts, now, withFlow = true) {
  return alerts.map((a) => [
    severity(a.severity), visible(a.rule), ...(withFlow ? [flowLink(a.flow)] : []),
    el("span", {}, when(a.since), el("span", { class: "note" }, ` ${ago(a.since, now)}`)),
    el("span", {}, what(a)),
    el("span", {}, a.state === "firing" ? el("strong", {}, "firing") : visible(a.state),
      el("span", { class: "note" }, a.verdict ? `, ${VERDICTS[a.verdict] ?? visible(a.verdict)}` : "",
        a.verdict === "true" && a.lead_s !== null ? ` ${span(a.lead_s)} before` : "")),
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
