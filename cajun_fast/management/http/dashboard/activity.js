// What happens: events of all nodes, and the moves and drains that were asked for.

import {byId, element, seconds} from "./format.js";
import {travel} from "./map.js";

const MOST = 60;
const SERIOUS = ["node-left", "node-fenced", "store-lost"];
let jobs = [];

export function happened(event) {
  const {from, to} = event.details || {};
  if (event.kind === "actor-moved" && from && to && event.age < 5) travel(from, to);
  const at = Date.now() - event.age * 1000;
  const item = element("li", {"data-kind": event.kind},
    element("time", {datetime: new Date(at).toISOString(), "data-at": at}, ago(at)),
    element("span", {class: SERIOUS.includes(event.kind) ? "serious" : null}, event.text));
  const list = byId("activity");
  list.prepend(item);
  while (list.children.length > MOST) list.lastElementChild.remove();
}

const ago = (at) => {
  const passed = (Date.now() - at) / 1000;
  return passed < 1.5 ? "now" : `${seconds(Math.round(passed))}`;
};

export function tick() {
  for (const time of byId("activity").querySelectorAll("time")) time.textContent = ago(Number(time.dataset.at));
}

export function drawJobs(list) {
  jobs = list;
  const recent = jobs.filter((job) => job.state === "running" || job.ended_ago < 60).slice(0, 6);
  byId("jobs").replaceChildren(...recent.map(jobItem));
}

function jobItem(job) {
  const words = {migrate: "Move of", drain: "Drain of", cordon: "Cordon of", uncordon: "Uncordon of"};
  const progress = job.progress && job.state === "running" ? job.progress : null;
  const all = progress ? progress.moved + progress.stayed + progress.left : 0;
  return element("li", {"data-job": job.id, "data-state": job.state},
    element("div", {class: "row"},
      element("span", {}, `${words[job.kind] || job.kind} `, element("b", {}, job.subject)),
      element("span", {class: job.state === "done" && !failure(job) ? "done" : job.state === "running" ? "quiet" : "failed"}, outcome(job))),
    job.state === "running" ? element("progress", progress && all ? {max: all, value: progress.moved, "aria-label": "progress"} : {"aria-label": "under way"}) : null,
    failure(job) ? element("span", {class: "failed"}, failure(job)) : null);
}

function failure(job) {
  if (job.error) return job.error;
  const result = job.result || {};
  if (job.kind === "migrate" && result.outcome && !["moved", "there"].includes(result.outcome)) return result.reason || result.outcome;
  if (job.kind === "drain" && result.complete === false) return result.reason || `${(result.stayed || []).length} actors stayed`;
  return "";
}

function outcome(job) {
  const took = seconds(job.seconds);
  if (job.state === "running") return job.progress ? `${job.progress.moved} moved, ${job.progress.left} left` : `under way, ${took}`;
  if (failure(job)) return "not done";
  if (job.kind === "drain") return `${job.result.moved} moved in ${took}`;
  return `done in ${took}`;
}
