// Numbers for people, and small helpers for the page. Everything that comes from the cluster is set as text, never as markup.

export function seconds(value) {
  if (!value || value <= 0) return "–";
  for (const [limit, unit, name] of [[1e-3, 1e-6, "µs"], [1, 1e-3, "ms"], [120, 1, "s"], [7200, 60, "min"], [172800, 3600, "h"]]) {
    if (value < limit) return `${Number((value / unit).toPrecision(3))} ${name}`;
  }
  return `${Number((value / 86400).toPrecision(3))} d`;
}

export function amount(value) {
  if (value >= 1e9) return `${(value / 1e9).toPrecision(3)}G`;
  if (value >= 1e6) return `${(value / 1e6).toPrecision(3)}M`;
  if (value >= 1e4) return `${(value / 1e3).toPrecision(3)}k`;
  return value >= 10 || Number.isInteger(value) ? Math.round(value).toLocaleString("en") : value.toFixed(1);
}

export const byId = (id) => document.getElementById(id);

// element("td", {class: "n"}, "text", otherElement)
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  return fill(made, attributes, children);
}

export function drawn(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  return fill(made, attributes, children);
}

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// Replaces the rows of a table body only where they differ, so that focus and selections stay.
export function rows(body, list, key, make, empty, columns) {
  const old = new Map([...body.children].map((row) => [row.dataset.key, row]));
  const wanted = list.map((item) => {
    const id = String(key(item));
    const row = make(item);
    row.dataset.key = id;
    const before = old.get(id);
    if (before && (before.innerHTML === row.innerHTML || before.contains(document.activeElement))) return before;
    return row;
  });
  if (!wanted.length) {
    const row = element("tr", {}, element("td", {class: "empty", colspan: columns}, empty));
    row.dataset.key = "empty";
    wanted.push(row);
  }
  if (wanted.length !== body.children.length || wanted.some((row, index) => body.children[index] !== row)) {
    body.replaceChildren(...wanted);
  }
}

export const cell = (text, label, kind = "") => element("td", {class: kind || null, "data-label": label}, text);
