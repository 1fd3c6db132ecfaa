// Lines over the last two minutes.

import {amount, byId, drawn, seconds} from "./format.js";

const POINTS = 120;
const past = [];

export function drawCharts(totals) {
  past.push({p50: totals.latency.p50, p99: totals.latency.p99, rate: totals.handled_per_second});
  if (past.length > POINTS) past.shift();
  const slowest = nice(Math.max(1e-6, ...past.map((point) => point.p99)));
  const fastest = nice(Math.max(1, ...past.map((point) => point.rate)));
  draw("c-latency", 180, [["p99", "p99"], ["p50", "p50"]], slowest);
  draw("c-rate", 120, [["rate-line", "rate"]], fastest, true);
  byId("latency-top").textContent = `↑ ${seconds(slowest)}`;
  byId("rate-top").textContent = `↑ ${amount(fastest)}`;
  byId("latency-text").textContent = `Now: p50 ${seconds(totals.latency.p50)}, p99 ${seconds(totals.latency.p99)}.`;
  byId("rate-text").textContent = `Now: ${amount(totals.handled_per_second)} a second.`;
}

function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}

function draw(id, height, lines, top, filled = false) {
  const x = (index) => 480 - ((past.length - 1 - index) * 480) / (POINTS - 1);
  const y = (value) => height - 2 - Math.min(1, value / top) * (height - 6);
  const grid = [0.25, 0.5, 0.75].map((part) => drawn("line", {class: "grid", x1: 0, x2: 480, y1: part * height, y2: part * height}));
  const made = lines.flatMap(([kind, name]) => {
    const path = past.map((point, index) => `${index ? "L" : "M"}${x(index).toFixed(1)} ${y(point[name]).toFixed(1)}`).join("");
    const area = `${path}L480 ${height}L${x(0).toFixed(1)} ${height}Z`;
    return [...(filled ? [drawn("path", {class: "area", d: area})] : []), drawn("path", {class: kind, d: path})];
  });
  byId(id).replaceChildren(...grid, drawn("line", {class: "grid", x1: 0, x2: 480, y1: height, y2: height}), ...made);
}
