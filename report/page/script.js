"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byID = (id) => document.getElementById(id);

// All text gets onto the page as text: names are not ours.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function makeSVG(tag, attributes = {}, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

function formatNumber(v) {
  if (v == null) return "";
  const size = Math.abs(v);
  if (size !== 0 && (size < 1e-3 || size >= 1e9)) return v.toExponential(2);
  if (size >= 1000) return Math.round(v).toLocaleString("en");
  return Number.isInteger(v) ? String(v) : v.toPrecision(4);
}

function formatSeconds(s) {
  if (s == null) return "";
  if (s < 1) return Math.round(s * 1000) + "ms";
  if (s < 60) return Number(s.toFixed(1)) + "s";
  const minutes = Math.floor(s / 60);
  if (minutes < 60) return minutes + "m" + String(Math.floor(s % 60)).padStart(2, "0") + "s";
  return Math.floor(minutes / 60) + "h" + String(minutes % 60).padStart(2, "0") + "m";
}

// Settings and facts are shown as they were given.
const formatValue = (v) => (v == null ? "" : typeof v === "object" ? JSON.stringify(v) : String(v));

// ---- which runs are drawn -------------------------------------------------

// Each drawn run holds a place, which gives it a colour and a dash; the lowest
// free place is taken, so that few curves differ most.
const drawn = new Map();
function draw(run) {
  if (drawn.has(run)) return;
  const taken = new Set(drawn.values());
  let place = 0;
  while (taken.has(place)) place++;
  drawn.set(run, place);
}
data.drawn.forEach(draw);
const colorOf = (run) => `var(--c${drawn.get(run) % 8})`;
const dashOf = (run) => ["", "7 4", "2 3", "10 3 2 3"][Math.floor(drawn.get(run) / 8) % 4];
function swatchOf(run) {
  const swatch = make("span", { class: "swatch" });
  swatch.style.borderTopColor = drawn.has(run) ? colorOf(run) : "transparent";
  swatch.style.borderTopStyle = drawn.has(run) && dashOf(run) ? "dashed" : "solid";
  return swatch;
}

// ---- charts ---------------------------------------------------------------

const margin = { top: 12, right: 14, bottom: 30, left: 58 };

function ticksBetween(low, high, count, log) {
  const ticks = [];
  if (log && high / low > 5) {
    const decades = Math.log10(high / low);
    const steps = decades < 1.5 ? [1, 2, 3, 5, 7] : decades < 4 ? [1, 2, 5] : [1];
    const every = Math.max(1, Math.ceil(decades / count));
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += every)
      for (const s of steps) {
        const v = s * 10 ** power;
        if (v >= low && v <= high) ticks.push(v);
      }
    return ticks;
  }
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((f) => f * power >= rough * 0.999) * power;
  for (let i = Math.ceil(low / step); i * step <= high && ticks.length < 30; i++) ticks.push(i * step);
  return ticks;
}

function formatTick(v) {
  const size = Math.abs(v), round = (x) => String(Math.round(x * 1e6) / 1e6);
  if (size >= 1e9) return round(v / 1e9) + "G";
  if (size >= 1e6) return round(v / 1e6) + "M";
  if (size >= 1e4) return round(v / 1e3) + "k";
  return size !== 0 && size < 1e-4 ? v.toExponential(1) : round(v);
}

// Smoothed values, without a bias to the first.
function smoothed(values, weight) {
  let sum = 0, norm = 0;
  return values.map((v) => {
    if (v == null || weight === 0) return v;
    sum = weight * sum + (1 - weight) * v;
    norm = weight * norm + (1 - weight);
    return sum / norm;
  });
}

function linesOf(axis) {
  const logX = byID("log-x").checked, logY = byID("log-y").checked, weight = Number(byID("smooth").value);
  const lines = [];
  for (const curve of data.curves[byID("metric").value] || []) {
    if (!drawn.has(curve.run)) continue;
    const values = smoothed(curve.value, weight);
    const points = [];
    curve[axis].forEach((x, i) => {
      const y = values[i];
      const visible = y != null && (!logY || y > 0) && (!logX || x > 0);
      if (visible) points.push([x, y]);
      else if (y == null) points.push(null); // a gap
    });
    if (points.some((p) => p)) lines.push({ run: curve.run, points });
  }
  return lines;
}

function scaleOf(values, log, from, to, room) {
  let low = Infinity, high = -Infinity;
  for (const v of values) {
    if (v < low) low = v;
    if (v > high) high = v;
  }
  if (low > high) [low, high] = [1, 10];
  const f = log ? Math.log : (v) => v, back = log ? Math.exp : (v) => v;
  let a = f(low), b = f(high);
  if (a === b) [a, b] = log ? [a - 0.7, b + 0.7] : [a - (Math.abs(a) || 1) / 10, b + (Math.abs(b) || 1) / 10];
  [a, b] = [a - room * (b - a), b + room * (b - a)];
  const place = (v) => from + ((f(v) - a) / (b - a)) * (to - from);
  return { place, low: back(a), high: back(b), log, value: (p) => back(a + ((p - from) / (to - from)) * (b - a)) };
}

function drawChart(holder, axis, label, format) {
  const width = Math.max(280, holder.clientWidth), height = window.innerWidth <= 600 ? 260 : 320;
  const lines = linesOf(axis), metric = byID("metric").value;
  const points = lines.flatMap((l) => l.points.filter((p) => p));
  const x = scaleOf(points.map((p) => p[0]), byID("log-x").checked, margin.left, width - margin.right, 0);
  const y = scaleOf(points.map((p) => p[1]), byID("log-y").checked, height - margin.bottom, margin.top, 0.04);
  const svg = makeSVG("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${metric} against ${label}, ${lines.length} runs` });
  if (!lines.length) svg.append(makeSVG("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "no run with values is chosen"));
  for (const v of lines.length ? ticksBetween(y.low, y.high, 5, y.log) : []) {
    svg.append(makeSVG("line", { class: "rule", x1: margin.left, x2: width - margin.right, y1: y.place(v), y2: y.place(v) }));
    svg.append(makeSVG("text", { x: margin.left - 6, y: y.place(v) + 4, "text-anchor": "end" }, formatTick(v)));
  }
  for (const v of lines.length ? ticksBetween(x.low, x.high, width / 80, x.log) : []) {
    svg.append(makeSVG("line", { class: "rule", y1: margin.top, y2: height - margin.bottom, x1: x.place(v), x2: x.place(v) }));
    svg.append(makeSVG("text", { x: x.place(v), y: height - 10, "text-anchor": "middle" }, format(v)));
  }
  for (const line of lines) {
    let path = "", command = "M";
    for (const p of line.points) {
      if (!p) { command = "M"; continue; }
      path += command + x.place(p[0]).toFixed(1) + " " + y.place(p[1]).toFixed(1);
      command = "L";
    }
    svg.append(makeSVG("path", { class: "line", d: path, stroke: colorOf(line.run), "stroke-dasharray": dashOf(line.run) }));
    if (line.points.length <= 30)
      for (const p of line.points.filter((p) => p))
        svg.append(makeSVG("circle", { cx: x.place(p[0]).toFixed(1), cy: y.place(p[1]).toFixed(1), r: 2.4, fill: colorOf(line.run) }));
  }
  holder.replaceChildren(svg);
  if (lines.length) followPointer(holder, svg, lines, x, y, width, height, axis, label);
}

function nearestPoint(points, x) {
  let best = null;
  for (const p of points) if (p && (!best || Math.abs(p[0] - x) < Math.abs(best[0] - x))) best = p;
  return best;
}

function followPointer(holder, svg, lines, x, y, width, height, axis, label) {
  const cross = makeSVG("line", { class: "cross", y1: margin.top, y2: height - margin.bottom, visibility: "hidden" });
  const tip = make("div", { class: "tip", hidden: true });
  svg.append(cross);
  holder.append(tip);
  svg.addEventListener("pointerleave", () => { tip.hidden = true; cross.setAttribute("visibility", "hidden"); });
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * width, level = ((event.clientY - box.top) / box.height) * height;
    const value = x.value(Math.min(width - margin.right, Math.max(margin.left, at)));
    const near = lines.map((l) => ({ run: l.run, point: nearestPoint(l.points, value) }))
      .sort((a, b) => Math.abs(y.place(a.point[1]) - level) - Math.abs(y.place(b.point[1]) - level)).slice(0, 10)
      .sort((a, b) => b.point[1] - a.point[1]);
    cross.setAttribute("x1", x.place(value));
    cross.setAttribute("x2", x.place(value));
    cross.setAttribute("visibility", "visible");
    const place = axis === "seconds" ? formatSeconds(value) : Math.round(value).toLocaleString("en");
    tip.replaceChildren(make("div", {}, `${place} ${label}`), ...near.map((n) => {
      return make("div", {}, swatchOf(n.run), `${formatNumber(n.point[1])}  ${data.runs[n.run].name}`);
    }));
    tip.hidden = false;
    tip.style.left = at < width / 2 ? "auto" : "66px";
    tip.style.right = at < width / 2 ? "18px" : "auto";
  });
}

function drawCharts() {
  byID("smooth-value").textContent = byID("smooth").value;
  drawChart(byID("by-tokens"), "tokens", "tokens", formatTick);
  drawChart(byID("by-time"), "seconds", "of training", formatSeconds);
  drawChart(byID("by-steps"), "step", "steps", formatTick);
}

// ---- the table of runs ----------------------------------------------------

// What came out stands before what was set: settings that differ may be many.
const kinds = ["optimizer.kind", "model.kind"].filter((key) => data.differing.includes(key));
const settingColumn = (key) => ({ title: key, value: (r) => r.settings[key] });
const columns = [
  { title: "name", value: (r) => r.name, show: (r) => make("button", { type: "button", class: "name", on: { click: () => showDetail(r) } }, r.name || "(no name)") },
  { title: "status", value: (r) => r.status, show: (r) => make("span", { class: r.status }, r.status) },
  ...kinds.map(settingColumn),
  ...(data.datasets > 1 ? [{ title: "dataset", value: (r) => r.dataset.name + " " + r.dataset.fingerprint.slice(0, 8) }] : []),
  ...data.outcomes.map((metric) => ({
    title: metric, value: (r) => r.metrics[metric], number: true,
    lowest: metric.endsWith("_ppl") && !metric.includes("unigram"),
  })),
  { title: "steps", value: (r) => r.steps, number: true },
  { title: "time", value: (r) => r.seconds, number: true, text: (r) => formatSeconds(r.seconds) },
  ...data.differing.filter((key) => !kinds.includes(key)).map(settingColumn),
  { title: "started", value: (r) => r.started, text: (r) => r.started.slice(0, 16).replace("T", " ") },
  { title: "tags", value: (r) => r.tags.join(", ") },
];
let order = { column: null, falling: false };

function compareValues(a, b) {
  if (a == null || b == null) return (a == null) - (b == null);
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

function listed() {
  const words = byID("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const indices = data.runs.map((_, i) => i).filter((i) => words.every((w) => data.runs[i].text.includes(w)));
  const c = order.column;
  if (c) indices.sort((i, j) => {
    const a = c.value(data.runs[i]), b = c.value(data.runs[j]);
    return (a == null || b == null) ? compareValues(a, b) : (order.falling ? -1 : 1) * compareValues(a, b);
  });
  return indices;
}

function drawTable() {
  const head = make("tr", {}, make("th", { scope: "col" }, "draw"), ...columns.map((c) => {
    const sorted = order.column === c;
    const arrow = sorted ? (order.falling ? " ▾" : " ▴") : "";
    return make("th", { scope: "col", class: c.number ? "number" : null, "aria-sort": sorted ? (order.falling ? "descending" : "ascending") : null },
      make("button", { type: "button", on: { click: () => { order = { column: c, falling: sorted && !order.falling }; drawTable(); } } }, c.title + arrow));
  }));
  const best = new Map();
  for (const c of columns.filter((c) => c.lowest)) {
    const values = data.runs.map(c.value).filter((v) => v != null);
    if (values.length > 1) best.set(c, values.reduce((a, b) => Math.min(a, b)));
  }
  const indices = listed();
  const rows = indices.map((i) => {
    const run = data.runs[i];
    const box = make("input", { type: "checkbox", "aria-label": "draw " + run.name, on: { change: () => choose(box.checked) } });
    box.checked = drawn.has(i);
    const cell = make("td", {}, swatchOf(i), box);
    const choose = (chosen) => {
      if (chosen) draw(i);
      else drawn.delete(i);
      cell.firstChild.replaceWith(swatchOf(i));
      drawCharts();
    };
    return make("tr", {}, cell, ...columns.map((c) => {
      const content = c.show ? c.show(run) : c.text ? c.text(run) : c.number ? formatNumber(c.value(run)) : formatValue(c.value(run));
      const isBest = best.has(c) && c.value(run) === best.get(c);
      return make("td", { class: [c.number && "number", isBest && "best"].filter(Boolean).join(" ") || null }, content);
    }));
  });
  byID("runs").replaceChildren(make("caption", { hidden: true }, "Runs"), make("thead", {}, head), make("tbody", {}, ...rows));
  byID("shown").textContent = `${indices.length} of ${data.runs.length} runs`;
}

// ---- details --------------------------------------------------------------

function pairsTable(title, pairs) {
  const rows = pairs.filter(([, v]) => v != null && v !== "").map(([k, v]) => make("tr", {}, make("th", { scope: "row" }, k), make("td", { class: "wide" }, formatValue(v))));
  return rows.length ? make("div", {}, make("h3", {}, title), make("table", {}, make("tbody", {}, ...rows))) : "";
}

function showDetail(r, jump = true) {
  const samples = r.events.filter((e) => e.kind === "sample"), events = r.events.filter((e) => e.kind !== "sample");
  const perplexities = ["val", "test"].filter((s) => r.metrics[s + "_ppl"] != null || r.metrics[s + "_unigram_ppl"] != null).map((s) =>
    [s === "val" ? "valid" : s, `${formatNumber(r.metrics[s + "_ppl"])} (best ${formatNumber(r.best[s + "_ppl"])}; unigram ${formatNumber(r.metrics[s + "_unigram_ppl"])})`]);
  byID("detail").replaceChildren(
    make("h3", { tabindex: "-1" }, r.name),
    make("div", { class: "columns" },
      pairsTable("Run", [["id", r.id], ["status", r.status + (r.reason ? ": " + r.reason : "")], ["note", r.note], ["tags", r.tags.join(", ")],
        ["started", r.started], ["ended", r.ended], ["trained", `${r.steps.toLocaleString("en")} steps, ${r.tokens.toLocaleString("en")} tokens, ${formatSeconds(r.seconds)}`], ["parent", r.parent]]),
      pairsTable("Perplexity", perplexities),
      pairsTable("Dataset", [["name", r.dataset.name], ["path", r.dataset.path], ["fingerprint", r.dataset.fingerprint], ...Object.entries(r.dataset_facts || {})]),
      pairsTable("Environment", [["host", r.host], ["cpu", r.cpu], ["device", r.device], ["threads", r.threads], ["git", r.git.commit + (r.git.dirty ? " with local changes" : "")],
        ["command", r.command.join(" ")], ...Object.entries(r.versions || {})]),
      pairsTable("Settings", Object.entries({ ...data.common, ...r.settings }).sort(([a], [b]) => compareValues(a, b))),
      pairsTable("Metrics", Object.entries(r.metrics).sort(([a], [b]) => compareValues(a, b)).map(([k, v]) => [k, formatNumber(v)])),
      pairsTable("Events", events.map((e) => [e.time.slice(0, 19).replace("T", " ") + " " + e.kind, e.message]))),
    ...(samples.length ? [make("h3", {}, "Samples"), ...samples.map((s) => make("pre", { tabindex: "0" }, s.message))] : []));
  if (!jump) return;
  byID("detail").querySelector("h3").focus();
  byID("detail-title").scrollIntoView();
}

// ---- start ----------------------------------------------------------------

for (const run of data.runs)
  run.text = [run.id, run.name, run.status, run.note, ...run.tags, ...Object.entries(run.settings).map(([k, v]) => k + "=" + formatValue(v))].join(" ").toLowerCase();
byID("about").textContent = `${data.runs.length} ${data.runs.length === 1 ? "run" : "runs"}, written ${data.written.slice(0, 16).replace("T", " ")} UTC`;
if (data.datasets > 1) {
  byID("warning").hidden = false;
  byID("warning").textContent = `These runs were trained on ${data.datasets} different datasets: their perplexities do not compare.`;
}
byID("metric").append(...data.metrics.map((m) => make("option", { value: m }, m)));
byID("controls").addEventListener("input", drawCharts);
byID("controls").addEventListener("submit", (event) => event.preventDefault());
byID("filter").addEventListener("input", drawTable);
byID("show-shown").addEventListener("click", () => { drawn.clear(); listed().forEach(draw); drawTable(); drawCharts(); });
byID("show-none").addEventListener("click", () => { drawn.clear(); drawTable(); drawCharts(); });
let resizing = 0;
window.addEventListener("resize", () => { cancelAnimationFrame(resizing); resizing = requestAnimationFrame(drawCharts); });
const common = Object.entries(data.common).sort(([a], [b]) => compareValues(a, b));
byID("common").append(make("caption", { hidden: true }, "Settings that all runs share"), make("tbody", {}, ...common.map(([k, v]) => make("tr", {}, make("th", { scope: "row" }, k), make("td", { class: "wide" }, formatValue(v))))));
drawTable();
drawCharts();
if (data.runs.length === 1) showDetail(data.runs[0], false);
