// The gates and the cell state of a flow's LSTM, as pictures: a column a step, a line a unit.

import { bar, el, fill, hidden, rate, share, span, table, visible, when } from "./common.js";

const NAMES = {
  f: ["f, forget gate", "what of the cell state stays", 0, 1],
  i: ["i, input gate", "what of the candidate enters", 0, 1],
  o: ["o, output gate", "what of the cell state is output", 0, 1],
  C: ["C, cell state", "the memory itself", -2, 2],
};
// From blue over a neutral middle to orange: readable with any form of colour blindness.
const LOW = [0, 90, 160], MIDDLE = [236, 236, 232], HIGH = [214, 104, 0];

function colourOf(share) {
  const [a, b, t] = share < 0.5 ? [LOW, MIDDLE, share * 2] : [MIDDLE, HIGH, share * 2 - 1];
  return a.map((each, n) => Math.round(each + (b[n] - each) * t));
}

function picture(values, low, high, label) {
  const steps = values.length, units = values[0].length;
  const canvas = el("canvas", { class: "heat", width: steps, height: units, role: "img", "aria-label": label });
  const context = canvas.getContext("2d");
  const image = context.createImageData(steps, units);
  for (let unit = 0; unit < units; unit += 1) {
    for (let step = 0; step < steps; step += 1) {
      const place = Math.min(1, Math.max(0, (values[step][unit] - low) / (high - low)));
      image.data.set([...colourOf(place), 255], (unit * steps + step) * 4);
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

function mean(values) {
  return values.reduce((a, b) => a + b, 0) / values.length;
}

function layer(gates, number, state) {
  const steps = gates.f.length;
  return [
    el("h3", {}, `Layer ${number + 1}: ${gates.f[0].length} units over the last ${steps} steps (${span(steps * state.step_s)})`),
    el("div", { class: "grid gates" }, Object.entries(NAMES).map(([name, [title, does, low, high]]) => {
      const last = mean(gates[name].at(-1));
      const text = `${title}: ${does}; from ${low} (blue) to ${high} (orange); mean of the last step ${last.toFixed(2)}`;
      return el("figure", {}, picture(gates[name], low, high, text),
        el("figcaption", {}, el("strong", {}, title), `: ${does}. Last step ${last.toFixed(2)} on average, first ${mean(gates[name][0]).toFixed(2)}.`));
    })),
    el("p", { class: "note" }, "Each column is a step, the newest at the right, each line a unit. Blue is low, orange is high: 0 to 1 for gates, −2 to 2 for the cell state. " +
      "The last step is exact. Those before are approximate: they are run again over the rates that the row keeps, from an empty state."),
  ];
}

/** Show a `FlowState` in *place*. */
export function showState(place, state) {
  const shares = Object.entries(state.blend).filter(([, each]) => each > 0.005).sort((a, b) => b[1] - a[1]);
  fill(place,
    el("p", { class: "note" }, `${visible(state.kind)} read at `, when(state.read_at), `; known for ${span(state.steps * state.step_s)}, ${share(state.missing_share)} of its steps missing lately` +
      (state.capacity ? `; capacity ${rate(state.capacity, state.unit)}` : "") + `. Saved in ${visible(state.partition)}, page ${visible(state.page)}, for the step to `, when(state.made_at), `, generation ${state.generation}.`),
    ...(state.no_gates ? [el("p", { class: "waiting" }, `The gates cannot be shown: ${visible(state.no_gates)}.`)] : state.layers.flatMap((each, n) => layer(each, n, state))),
    el("div", { class: "grid" },
      table("Running errors, of log rate, by how far ahead; the lowest is marked *", [["predictor"], ...state.horizons.map((h) => [span(h * state.step_s), "n"])],
        errors(state), "none"),
      state.served_by ? el("p", {}, `Served by ${visible(state.served_by)}.`)
        : table("What the median is blended of", [["part"], ["share", "n"], [hidden("as a bar"), "wide"]], shares.map(([name, each]) => [visible(name), share(each), bar(each)]), "The network alone.")));
}

function errors(state) {
  const rows = Object.entries(state.errors);
  const least = state.horizons.map((_, n) => Math.min(...rows.map(([, each]) => each[n])));
  const cells = rows.map(([name, each]) => [visible(name), ...each.map((error, n) => error.toFixed(3) + (error === least[n] ? " *" : ""))]);
  return [["network", ...state.error.map((each) => (each ? each.toFixed(3) : "–"))], ...cells];
}
