// Charts by the plotly that is installed with the console; it is loaded when the first is drawn.

import { isoTime, prefixOf, written, zone } from "./common.js";

let loading = null;

function library() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "static/plotly.min.js";
    // The library adds a style sheet for maps, which we do not draw and the page's policy forbids.
    const create = document.createElement;
    document.createElement = function created(tag, ...rest) {
      const made = create.call(document, tag, ...rest);
      if (tag === "style") Object.defineProperty(made, "textContent", { get: () => "", set: () => {} });
      return made;
    };
    script.onload = () => {
      document.createElement = create;
      resolve(window.Plotly);
    };
    script.onerror = () => reject(new Error("The chart library is not installed."));
    document.head.append(script);
  });
  return loading;
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function faded(name, alpha) {
  const [r, g, b] = colour(name).match(/[0-9a-f]{2}/gi).map((each) => parseInt(each, 16));
  return `rgba(${r},${g},${b},${alpha})`;
}

function layout(more = {}) {
  const axis = { gridcolor: colour("--line"), zeroline: false, linecolor: colour("--line"), automargin: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colour("--fg"), size: 12, family: "system-ui, sans-serif" },
    margin: { l: 8, r: 8, t: 8, b: 8 }, showlegend: false, hovermode: "x unified", dragmode: false,
    hoverlabel: { bgcolor: colour("--card"), font: { color: colour("--fg") } },
    ...more,
    xaxis: { ...axis, title: { text: zone(), font: { size: 11 } }, ...more.xaxis },
    yaxis: { ...axis, ...more.yaxis },
  };
}

const CONFIG = { responsive: true, displayModeBar: false, showTips: false };

export async function draw(place, traces, more) {
  const Plotly = await library();
  await Plotly.react(place, traces, layout(more), CONFIG);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => location.reload());

/** Two traces that enclose a band; null ends it. */
function band(x, low, high, fill, name) {
  const shared = { x, mode: "lines", line: { width: 0 }, hoverinfo: "skip", connectgaps: false, type: "scatter" };
  return [{ ...shared, y: low, name }, { ...shared, y: high, name, fill: "tonexty", fillcolor: fill }];
}

/** A flow: what came, what was predicted an hour before, and what is predicted now. */
export function flowChart(place, flow) {
  const [factor, name] = written(flow.unit);
  const most = Math.max(0, ...flow.rates, ...flow.predicted[1], ...flow.quantiles.flatMap((each) => each.rates));
  const [size, prefix] = prefixOf(most * factor);
  const unit = ` ${prefix}${name}`;
  const up = (values) => values.map((value) => (value === null ? null : (value * factor) / size));
  const steps = flow.rates.length;
  // A rate belongs to the step that ends at its time, so it is drawn in the middle of the step.
  const middle = flow.first_at - flow.step_s / 2;
  const x = Array.from({ length: steps }, (_, n) => isoTime(middle + n * flow.step_s));
  const ahead = flow.quantiles[0].rates.map((_, n) => isoTime(flow.made_at + (n + 0.5) * flow.step_s));
  const by = (level) => up(flow.quantiles.find((each) => each.level === level)?.rates ?? []);
  const levels = flow.quantiles.map((each) => each.level);
  const [lowest, highest] = [levels[0], levels[levels.length - 1]];
  const inner = [0.25, 0.75].every((level) => levels.includes(level));
  const central = levels.reduce((a, b) => (Math.abs(b - 0.5) < Math.abs(a - 0.5) ? b : a));
  const text = `%{y:.3~r}${unit}`;
  const traces = [
    ...band(x, up(flow.predicted[0].slice(0, steps)), up(flow.predicted[2].slice(0, steps)), faded("--before", 0.22), "before"),
    { x, y: up(flow.predicted[1].slice(0, steps)), mode: "lines", name: "predicted before", hovertemplate: text,
      line: { color: colour("--before"), dash: "dot", width: 2 } },
    ...band(ahead, by(lowest), by(highest), faded("--ahead", 0.22), "ahead"),
    ...(inner ? band(ahead, by(0.25), by(0.75), faded("--ahead", 0.3), "ahead") : []),
    { x: ahead, y: by(central), mode: "lines", name: "forecast", hovertemplate: text,
      line: { color: colour("--ahead"), dash: "dash", width: 2.5 } },
    { x, y: up(flow.rates), mode: "lines", name: "rate", hovertemplate: text,
      line: { color: colour("--fg"), width: 1.8 } },
  ];
  return draw(place, traces, {
    xaxis: { nticks: place.clientWidth < 500 ? 3 : 8, tickangle: 0 },
    yaxis: { tickformat: ".3~r", ticksuffix: unit, rangemode: "tozero", nticks: 6 },
    shapes: [{ type: "line", xref: "x", yref: "paper", x0: isoTime(flow.made_at), x1: isoTime(flow.made_at),
      y0: 0, y1: 1, line: { color: colour("--muted"), width: 1, dash: "dash" } }],
  });
}

/** Shares over time, with the range in which the first should be. */
export function shareChart(place, times, series, range, more = {}) {
  const x = times.map(isoTime);
  const looks = [["--ahead", "solid"], ["--before", "dot"], ["--fg", "dash"]];
  const traces = series.map(({ name, values }, n) => ({
    x, y: values, name, mode: "lines+markers", marker: { size: 5, symbol: n ? "square" : "circle" },
    line: { color: colour(looks[n][0]), dash: looks[n][1], width: 2 }, hovertemplate: "%{y:.1%}",
  }));
  const shapes = range ? [{ type: "rect", xref: "paper", x0: 0, x1: 1, y0: range[0], y1: range[1], yref: "y",
    line: { width: 0 }, fillcolor: faded("--ahead", 0.15), layer: "below" }] : [];
  const xaxis = { nticks: place.clientWidth < 500 ? 3 : 6, tickangle: 0 };
  return draw(place, traces, { xaxis, yaxis: { tickformat: ".3~p", nticks: 4, ...more }, shapes });
}
