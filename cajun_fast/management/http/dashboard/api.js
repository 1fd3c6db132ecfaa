// How the page talks to its node: questions, changes, and the stream. The token, where one is wanted, stays in this tab.

const base = new URL("../api/v1/", document.baseURI);
let token = sessionStorage.getItem("cajun-token") || "";

if (location.hash.startsWith("#token=")) {
  keepToken(decodeURIComponent(location.hash.slice(7)));
  history.replaceState(null, "", location.pathname);
}

export function keepToken(value) {
  token = value;
  sessionStorage.setItem("cajun-token", value);
}

export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

function headers(more = {}) {
  return token ? {Authorization: `Bearer ${token}`, ...more} : more;
}

async function checked(answer) {
  if (answer.ok) return answer;
  let detail = answer.statusText;
  try {
    detail = (await answer.json()).detail || detail;
  } catch { /* no problem document: the status has to do */ }
  throw new Problem(answer.status, detail);
}

export async function ask(path, parameters = {}) {
  const url = new URL(path, base);
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  }
  return (await checked(await fetch(url, {headers: headers()}))).json();
}

export async function change(path, body = null) {
  const more = body ? {"Content-Type": "application/json"} : {};
  const answer = await fetch(new URL(path, base), {method: "POST", headers: headers(more), body: body && JSON.stringify(body)});
  return (await checked(answer)).json();
}

// Calls on.news(name, data) for each event and on.state("live" | "lost", error); reads again after a loss, for ever.
export async function follow(on) {
  for (let pause = 500; ; pause = Math.min(pause * 2, 8000)) {
    let error = null;
    try {
      const answer = await checked(await fetch(new URL("events", base), {headers: headers()}));
      on.state("live");
      pause = 500;
      await read(answer.body.getReader(), on.news);
    } catch (failure) {
      error = failure;
    }
    await on.state("lost", error);
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

async function read(reader, news) {
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    text += decoder.decode(value, {stream: true});
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const name = /^event: (.*)$/m.exec(event)?.[1];
      const data = /^data: (.*)$/m.exec(event)?.[1];
      if (name && data) news(name, JSON.parse(data));
    }
  }
}
