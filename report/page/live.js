// The served page: it follows the store by server-sent events, and filters by the
// conditions of --where.
const query = location.search;
const withQuery = (path, parameters = {}) => {
  const all = new URLSearchParams(query);
  for (const [key, value] of Object.entries(parameters)) all.set(key, value);
  return path + "?" + all;
};

async function ask(path, parameters) {
  const response = await fetch(withQuery(path, parameters));
  if (!response.ok) throw new Error(response.statusText);
  return response.json();
}

// A change of the runs, metrics or columns that there are comes as the whole data.
async function refresh() {
  const next = await ask("data", { since: data.written, marks: data.marks });
  const isNew = (key) => next[key].some((name) => !data[key].includes(name));
  if (!next.part || isNew("metrics") || isNew("outcomes")) {
    const whole = next.part ? await ask("data") : next;
    whole.curves = data.curves;
    whole.runs.filter((run) => run.status === "running" || run.status !== runOf.get(run.id)?.status).forEach((run) => changedRun(run.id));
    data = whole;
    rowOf.clear();
    if (!state.draw) drawFirst();
    show();
  } else {
    data.written = next.written;
    const index = new Map(data.runs.map((r, i) => [r.id, i]));
    for (const run of next.runs) {
      data.runs[index.get(run.id)] = run;
      rowOf.delete(run.id);
      changedRun(run.id);
    }
    indexRuns();
    drawRows();
    drawCharts();
  }
  const open = runOf.get(state.run);
  if (open && !open.events && !byID("detail").contains(document.activeElement)) await showDetail(open, false);
  if (matching) await filterWith(state.filter);
}

// The curves of the drawn runs, those of 300 at once. A curve of a run that has
// changed stays until the new one comes, as does one that was read among so many that
// it has few points.
const asking = new Set(), outdated = new Set(); // "metric id"
function changedRun(id) {
  for (const metric of data.metrics) if (data.curves[metric]?.[id] !== undefined) outdated.add(metric + " " + id);
}
needCurves = () => {
  const metric = byID("metric").value;
  if (!metric) return;
  const curves = (data.curves[metric] ??= {});
  const coarse = (curve) => curve && curve.among > 4 * Math.max(100, drawn.size);
  const ids = [...drawn.keys()].filter((id) => (curves[id] === undefined || coarse(curves[id]) || outdated.has(metric + " " + id)) && !asking.has(metric + " " + id));
  for (let i = 0; i < ids.length; i += 300) readCurves(metric, curves, ids.slice(i, i + 300));
  reading = asking.size > 0;
};
async function readCurves(metric, curves, ids) {
  for (const id of ids) {
    asking.add(metric + " " + id);
    outdated.delete(metric + " " + id);
  }
  const among = drawn.size;
  try {
    const found = await ask("curves", { metric, among, ids: ids.join(" ") });
    for (const id of ids) curves[id] = found[id] ? { ...found[id], among } : null;
  } catch (error) {
    byID("connection").textContent = "The curves are not up to date: " + error.message;
    for (const id of ids) curves[id] ??= null;
  }
  for (const id of ids) asking.delete(metric + " " + id);
  if (!asking.size) {
    reading = false;
    drawCharts();
  }
}

needDetails = async (run) => {
  try {
    Object.assign(run, await ask("run", { id: run.id }));
  } catch (error) {
    byID("connection").textContent = "The details cannot be read: " + error.message;
    run.events ??= [];
  }
};

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

// The server knows conditions.
let asked = 0;
filterWith = async (text) => {
  const message = byID("filter-error");
  if (!isCondition(text)) {
    message.textContent = "";
    return;
  }
  const number = ++asked;
  const answer = await ask("where", { q: text });
  if (number !== asked || text !== state.filter) return;
  message.textContent = answer.error || "";
  matching = answer.error ? new Set() : new Set(answer.ids);
  drawRows();
};
drawCharts();
if (chosen) showDetail(chosen, false);
byID("filter").placeholder = "words, or a condition: val_ppl < 120";
if (state.filter) filterWith(state.filter);
