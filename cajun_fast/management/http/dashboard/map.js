// The cluster map: nodes on a ring, links between them as wide as their traffic, actors that travel.

import {amount, byId, drawn} from "./format.js";

const WIDTH = 640, HEIGHT = 420;
const MOST_LINKS = 80;
const still = matchMedia("(prefers-reduced-motion: reduce)");
let places = new Map();

export function drawMap(seen) {
  const svg = byId("map");
  places = placed(seen.nodes);
  const links = seen.links
    .filter((link) => places.has(link.node) && places.has(link.peer))
    .sort((one, other) => other.messages_per_second - one.messages_per_second)
    .slice(0, MOST_LINKS);
  const labelled = seen.nodes.length <= 9;
  svg.replaceChildren(
    drawn("g", {}, ...links.map(line)),
    drawn("g", {}, ...(labelled ? links.map(rate) : [])),
    drawn("g", {}, ...seen.nodes.map((node) => body(node, seen))),
    svg.querySelector("#travellers") || drawn("g", {id: "travellers"}),
  );
  byId("map-text").textContent = described(seen, links);
}

function placed(nodes) {
  const found = new Map();
  const radius = {x: WIDTH / 2 - 110, y: HEIGHT / 2 - 78};
  nodes.forEach((node, index) => {
    const angle = nodes.length === 2 ? Math.PI * (1 + index) : -Math.PI / 2 + (2 * Math.PI * index) / nodes.length;
    const alone = nodes.length === 1 ? 0 : 1;
    found.set(node.node, {x: WIDTH / 2 + alone * radius.x * Math.cos(angle), y: HEIGHT / 2 + alone * radius.y * Math.sin(angle)});
  });
  return found;
}

const size = (node, seen) => {
  const most = Math.max(1, ...seen.nodes.map((each) => each.actors));
  return node.is_client ? 20 : 26 + 20 * Math.sqrt(node.actors / most);
};

function body(node, seen) {
  const {x, y} = places.get(node.node);
  const r = size(node, seen);
  const kinds = ["node", node.is_client && "client", node.is_cordoned && "cordoned", (!node.answers || node.is_fenced) && "ill"];
  const actors = `${amount(node.actors)} ${node.actors === 1 ? "actor" : "actors"}`;
  const short = node.node.length > 14 ? `${node.node.slice(0, 13)}…` : node.node;
  return drawn("g", {class: kinds.filter(Boolean).join(" "), transform: `translate(${x} ${y})`},
    drawn("title", {}, node.node),
    drawn("circle", {class: "halo", r: r + 9}),
    drawn("circle", {class: "body", r}),
    drawn("text", {y: short.length > 7 ? r + 22 : 5}, short),
    drawn("text", {class: "sub", y: short.length > 7 ? r + 40 : r + 25}, node.is_client ? "client" : actors),
    node.is_leader ? drawn("text", {class: "crown", y: -r - 12}, "★ leader") : null,
  );
}

function curve(link) {
  const from = places.get(link.node), to = places.get(link.peer);
  const dx = to.x - from.x, dy = to.y - from.y;
  const length = Math.hypot(dx, dy) || 1;
  const bend = 0.1 * length;
  return {from, to, middle: {x: (from.x + to.x) / 2 - (dy / length) * bend, y: (from.y + to.y) / 2 + (dx / length) * bend}};
}

function line(link) {
  const {from, to, middle} = curve(link);
  const flows = link.up && link.messages_per_second >= 2;
  const path = drawn("path", {
    class: `link${flows ? " flows" : ""}${link.up ? "" : " down"}`,
    d: `M${from.x} ${from.y}Q${middle.x} ${middle.y} ${to.x} ${to.y}`,
  });
  if (flows) {
    path.style.strokeWidth = `${Math.min(7, 1.6 + Math.log10(link.messages_per_second))}`;
    path.style.animationDuration = `${Math.max(0.25, 1.6 - 0.3 * Math.log10(link.messages_per_second))}s`;
  }
  return path;
}

function rate(link) {
  if (link.messages_per_second < 2) return null;
  const {from, to, middle} = curve(link);
  const at = {x: (from.x + to.x) / 4 + middle.x / 2, y: (from.y + to.y) / 4 + middle.y / 2};
  return drawn("text", {class: "rate", x: at.x, y: at.y + 4}, amount(link.messages_per_second));
}

function described(seen, links) {
  const nodes = seen.nodes.map((node) => `${node.node}: ${node.is_client ? "client" : `${node.actors} actors`}`).join(", ");
  const busy = links.filter((link) => link.messages_per_second >= 2).slice(0, 10)
    .map((link) => `${link.node} to ${link.peer} ${amount(link.messages_per_second)}`).join(", ");
  return `${nodes}. ${busy ? `Messages a second: ${busy}.` : "Hardly any messages."}`;
}

// An actor goes from one node to another.
export function travel(from, to) {
  const start = places.get(from), end = places.get(to), home = byId("travellers");
  if (!start || !end || !home || still.matches || home.children.length > 40) return;
  const dot = drawn("circle", {class: "traveller", r: 6, cx: start.x, cy: start.y});
  home.append(dot);
  const {middle} = curve({node: from, peer: to});
  const began = performance.now();
  const step = (now) => {
    const t = Math.min(1, (now - began) / 900), u = 1 - t;
    dot.setAttribute("cx", u * u * start.x + 2 * u * t * middle.x + t * t * end.x);
    dot.setAttribute("cy", u * u * start.y + 2 * u * t * middle.y + t * t * end.y);
    if (t < 1) requestAnimationFrame(step);
    else dot.remove();
  };
  requestAnimationFrame(step);
}
