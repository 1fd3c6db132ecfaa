// The tables: nodes, hottest actors, the directory, dead letters.

import {ask} from "./api.js";
import {amount, byId, cell, element, rows, seconds} from "./format.js";

const chip = (text, kind = "") => element("span", {class: `chip ${kind}`}, text);

export function drawNodes(seen, me, steer) {
  const most = Math.max(1, ...seen.nodes.map((node) => node.actors));
  rows(byId("nodes"), seen.nodes, (node) => node.node, (node) => nodeRow(node, most, me, steer), "Nobody is here.", 10);
}

function nodeRow(node, most, me, steer) {
  const bar = element("i");
  bar.style.width = `${(100 * node.actors) / most}%`;
  const name = element("td", {class: "name"}, node.node);
  if (node.node === me.node) name.append(" ", element("span", {class: "quiet"}, "(shows this page)"));
  return element("tr", {},
    name,
    element("td", {"data-label": "State"}, ...states(node)),
    element("td", {"data-label": "Actors"}, element("span", {class: "meter"}, element("span", {}, amount(node.actors)), bar)),
    cell(amount(node.handled_per_second), "Handled/s", "n"),
    cell(seconds(node.latency.p99), "p99", "n"),
    cell(amount(node.queued), "Queued", "n"),
    cell(seconds(node.loop_lag), "Loop late", "n"),
    cell(node.longest_hold ? `${seconds(node.longest_hold)} ${node.held_by}` : "–", "Longest hold", "n"),
    cell(amount(node.dead_letters), "Dead letters", "n"),
    element("td", {class: "act"}, ...actions(node, me, steer)),
  );
}

function states(node) {
  const found = [];
  if (node.is_leader) found.push(chip("leader", "leader"));
  if (node.is_client) found.push(chip("client"));
  if (node.is_fenced) found.push(chip("fenced", "bad"));
  if (node.is_cordoned) found.push(chip("cordoned", "warn"));
  if (node.is_leaving) found.push(chip("leaving", "warn"));
  if (!node.answers) found.push(chip("no answer", "bad"));
  return found.length ? found : [chip("member")];
}

function actions(node, me, steer) {
  if (!me.writable || node.is_client) return [];
  const found = [];
  if (me.can.includes("cordon")) {
    const word = node.is_cordoned ? "uncordon" : "cordon";
    const says = node.is_cordoned ? "Uncordon" : "Cordon";
    found.push(element("button", {"aria-label": `${says} node ${node.node}`, onclick: () => steer.cordon(node.node, word)}, says));
  }
  if (me.can.includes("drain")) {
    found.push(element("button", {"aria-label": `Drain node ${node.node}`, onclick: () => steer.drain(node)}, "Drain"));
  }
  return found;
}

export function drawHottest(seen) {
  rows(byId("hottest"), seen.hottest.slice(0, 10), (row) => `${row.node}/${row.id}`, (row) => element("tr", {},
    element("td", {class: "name"}, row.id),
    cell(row.node, "Node"),
    cell(`${Number((100 * row.busy).toPrecision(2))} %`, "Time", "n"),
    cell(row.hold ? seconds(row.hold) : "", "Held the loop", "n"),
    cell(amount(row.rate), "Messages/s", "n"),
    cell(amount(row.bytes), "Bytes/s", "n"),
    cell(amount(row.queue), "Queue", "n"),
  ), "All actors rest.", 7);
}

// ---- the directory

const PAGE = 25;
let page = {actors: [], after: null, revision: null};

export async function loadActors(more = false) {
  const form = byId("actor-filter");
  const asked = {prefix: form.elements.prefix.value, node: form.elements.node.value, limit: more ? PAGE : Math.max(PAGE, Math.min(page.actors.length, 500))};
  if (more) Object.assign(asked, {after: page.after, revision: page.revision});
  const answer = await ask("actors", asked);
  page = {...answer, actors: more ? [...page.actors, ...answer.actors] : answer.actors};
}

export function drawActors(seen, me, steer) {
  const hosts = seen.nodes.filter((node) => !node.is_client).map((node) => node.node);
  keepOptions(byId("actor-filter").elements.node, ["", ...hosts], "all nodes");
  rows(byId("actors"), page.actors, (actor) => actor.actor_id, (actor) => element("tr", {},
    element("td", {class: "name"}, actor.actor_id),
    cell(actor.type || "–", "Type"),
    cell(actor.node, "Node"),
    element("td", {class: "act"}, mover(actor, hosts, me, steer)),
  ), "No actors here.", 4);
  byId("more").hidden = page.after === null;
}

function mover(actor, hosts, me, steer) {
  if (actor.sharded || !me.writable || !me.can.includes("migrate") || hosts.length < 2) return null;
  const others = hosts.filter((node) => node !== actor.node);
  const choice = element("select", {"aria-label": `Move ${actor.actor_id} to`, onchange: (event) => {
    const to = event.target.value;
    event.target.value = "";
    event.target.blur();
    if (to) steer.migrate(actor.actor_id, to);
  }}, element("option", {value: ""}, "Move to…"), ...others.map((node) => element("option", {value: node}, node)));
  return choice;
}

function keepOptions(select, values, first) {
  const now = [...select.options].map((option) => option.value);
  if (now.join("\n") === values.join("\n")) return;
  const chosen = select.value;
  select.replaceChildren(...values.map((value) => element("option", {value}, value || first)));
  select.value = values.includes(chosen) ? chosen : "";
}

// ---- dead letters

export async function drawDead() {
  const answer = await ask("dead-letters", {limit: 12});
  const counts = Object.entries(answer.counts).sort((one, other) => other[1] - one[1]);
  byId("dead-counts").textContent = counts.map(([why, count]) => `${why}: ${amount(count)}`).join(" · ");
  const letters = answer.letters.map((letter, index) => ({...letter, index}));
  rows(byId("dead"), letters, (letter) => letter.index, (letter) => element("tr", {},
    cell(seconds(letter.age), "Ago"),
    element("td", {class: "name", "data-label": "To"}, letter.target),
    cell(`${letter.reason} (on ${letter.node})`, "Why"),
    element("td", {class: "message", "data-label": "Message"},
      [letter.message, letter.message_id].filter(Boolean).join(" · ")),
  ), "None. Every message reached a handler.", 4);
}
