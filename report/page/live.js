// The served page: it follows the store by server-sent events, and filters by the
// conditions of --where.
const query = location.search;
const withQuery = (path, parameters = {}) => {
  const all = new URLSearchParams(query);
  for (const [key, value] of Object.entries(parameters)) all.set(key, value);
  return path + "?" + all;
};

async function refresh() {
  const response = await fetch(withQuery("data", { since: data.written }));
  if (!response.ok) throw new Error(response.statusText);
  const next = await response.json();
  const known = new Map(data.runs.map((r, i) => [r.id, i]));
  if (next.all || next.ids.length !== data.runs.length || next.ids.some((id) => !known.has(id))) {
    const whole = await fetch(withQuery("data"));
    data = await whole.json();
    show();
  } else {
    data.written = next.written;
    const index = next.runs.map((r) => known.get(r.id));
    next.runs.forEach((run, i) => {
      data.runs[index[i]] = run;
      rowOf.delete(run.id);
    });
    for (const [metric, curves] of Object.entries(next.curves)) {
      if (!data.curves[metric]) {
        data.curves[metric] = [];
        data.metrics.push(metric);
      }
      for (const curve of curves) {
        curve.run = index[curve.run];
        const old = data.curves[metric].findIndex((c) => c.run === curve.run);
        if (old < 0) data.curves[metric].push(curve);
        else data.curves[metric][old] = curve;
      }
    }
    indexRuns();
    drawRows();
    drawCharts();
  }
  const open = data.runs.find((r) => r.id === state.run);
  if (open && open.status === "running" && !byID("detail").contains(document.activeElement)) showDetail(open, false);
  if (matching) filterWith(state.filter);
}

let busy = false, again = false;
async function changed() {
  if (busy) {
    again = true;
    return;
  }
  busy = true;
  try {
    await refresh();
    byID("connection").textContent = "";
  } catch (error) {
    byID("connection").textContent = "The page is not up to date: " + error.message;
  }
  busy = false;
  if (again) {
    again = false;
    changed();
  }
}

const source = new EventSource(withQuery("events"));
source.addEventListener("changed", changed);
source.addEventListener("open", () => { byID("connection").textContent = ""; });
source.addEventListener("error", () => { byID("connection").textContent = "No connection to koala-lm report serve: the page shows the last state."; });

// A filter with an operator is a condition, which the server knows; other text is
// words to look for.
let asked = 0;
filterWith = async (text) => {
  const condition = /[=<>!]|\bin\b|\bcontains\b|\(|^diverged$/.test(text);
  const message = byID("filter-error");
  if (!condition) {
    message.textContent = "";
    return;
  }
  const number = ++asked;
  const response = await fetch(withQuery("where", { q: text }));
  const answer = await response.json();
  if (number !== asked || text !== state.filter) return;
  message.textContent = answer.error || "";
  matching = answer.error ? new Set() : new Set(answer.ids);
  drawRows();
};
byID("filter").placeholder = "words, or a condition: val_ppl < 120";
if (state.filter) filterWith(state.filter);
