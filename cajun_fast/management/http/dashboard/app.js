// The page: follows the cluster by one stream and draws what it says; steers it where that is allowed.

import {drawJobs, happened, tick} from "./activity.js";
import {Problem, ask, change, follow, keepToken} from "./api.js";
import {drawCharts} from "./charts.js";
import {amount, byId, seconds} from "./format.js";
import {drawMap} from "./map.js";
import {drawActors, drawDead, drawHottest, drawNodes, loadActors} from "./tables.js";

let me = {node: "", writable: false, can: []};
let seen = null;
let deadBefore = -1;
let rounds = 0;
let asking = null;

const news = {overview, happened, jobs: drawJobs, missed: () => {}};

async function begin() {
  document.querySelector("#actor-filter").addEventListener("submit", (event) => event.preventDefault());
  byId("actor-filter").addEventListener("input", refreshActors);
  byId("more").addEventListener("click", () => attempt(async () => { await loadActors(true); drawActors(seen, me, steer); }));
  byId("elect").addEventListener("click", steer.elect);
  setInterval(tick, 1000);
  await follow({news: (name, data) => news[name]?.(data), state});
}

async function state(word, error) {
  const pill = byId("connection");
  pill.className = `pill ${word}`;
  pill.textContent = word === "live" ? "live" : "reconnecting";
  if (word === "live") {
    await attempt(whoAmI);
  } else if (error instanceof Problem && error.status === 401) {
    pill.textContent = "token wanted";
    const token = await question("This cluster wants a token", "It is the one that the node was started with.", "Go on", "Token");
    if (token) keepToken(token);
  } else if (error instanceof Problem) {
    toast(error.message);
  }
}

async function whoAmI() {
  me = await ask("self");
  byId("cluster-name").textContent = `${me.cluster} · seen from ${me.node}`;
  document.title = `${me.cluster} – cajun-fast`;
  byId("mode").hidden = me.writable;
  byId("elect").hidden = !me.writable;
}

function overview(data) {
  if (data.error) {
    toast(data.error);
    return;
  }
  seen = data;
  const {totals} = data;
  byId("t-nodes").textContent = amount(totals.nodes);
  byId("t-leader").textContent = data.leader ? `${data.leader} leads` : "nobody leads";
  byId("t-actors").textContent = amount(totals.actors);
  byId("t-queued").textContent = `${amount(totals.queued)} messages wait`;
  byId("t-rate").textContent = amount(totals.handled_per_second);
  byId("t-sent").textContent = `${amount(totals.sent_per_second)} between nodes`;
  byId("t-p99").textContent = seconds(totals.latency.p99);
  byId("t-p50").textContent = `p50 ${seconds(totals.latency.p50)}`;
  byId("t-dead").textContent = amount(totals.dead_letters);
  drawMap(data);
  if (data.seconds) drawCharts(totals);
  drawNodes(data, me, steer);
  drawHottest(data);
  if (rounds++ % 2 === 0) refreshActors();
  if (totals.dead_letters !== deadBefore || rounds % 10 === 0) {
    deadBefore = totals.dead_letters;
    attempt(drawDead);
  }
}

async function refreshActors() {
  await attempt(async () => {
    await loadActors();
    if (seen) drawActors(seen, me, steer);
  });
}

// ---- steering

const steer = {
  migrate: (actor, to) => attempt(async () => {
    const job = await change(`actors/${encodeURIComponent(actor).replaceAll("%2F", "/")}/migrate`, {node: to});
    toast(job.state === "done" ? `${actor} → ${to}: ${job.result?.outcome || "done"}` : job.error || `${actor} is on its way to ${to}`);
    await refreshActors();
  }),
  drain: async (node) => {
    const sure = await question(`Drain node ${node.node}?`, `Its ${amount(node.actors)} actors move to the other nodes, and no new ones are placed there.`, "Drain");
    if (sure) await attempt(() => change(`nodes/${encodeURIComponent(node.node)}/drain`));
  },
  cordon: (node, word) => attempt(() => change(`nodes/${encodeURIComponent(node)}/${word}`)),
  elect: async () => {
    const sure = await question("Elect a new leader?", "The present one steps down; messages go on meanwhile.", "Elect");
    if (sure) await attempt(async () => toast((await change("leader/elect")).reason));
  },
};

async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof Problem && error.status === 401)) toast(error.message);
    return null;
  }
}

// ---- asking and telling

function question(title, text, yes, field = null) {
  if (asking) return asking;
  const dialog = byId("ask");
  byId("ask-title").textContent = title;
  byId("ask-text").textContent = text;
  byId("ask-yes").textContent = yes;
  byId("ask-field").hidden = field === null;
  byId("ask-label").textContent = field || "";
  byId("ask-input").value = "";
  asking = new Promise((resolve) => {
    const answer = (value) => () => { dialog.onclose = null; asking = null; dialog.close(); resolve(value()); };
    byId("ask-yes").onclick = answer(() => (field === null ? true : byId("ask-input").value.trim()));
    byId("ask-no").onclick = answer(() => null);
    byId("ask-input").onkeydown = (event) => { if (event.key === "Enter") byId("ask-yes").click(); };
    dialog.onclose = answer(() => null);
  });
  dialog.showModal();
  return asking;
}

let toasts = 0;
function toast(text) {
  const box = byId("toast"), mine = ++toasts;
  box.textContent = text;
  box.hidden = false;
  setTimeout(() => { if (mine === toasts) box.hidden = true; }, 6000);
}

begin();
