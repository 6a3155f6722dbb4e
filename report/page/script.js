"use strict";
let data = JSON.parse(document.getElementById("data").textContent);
const byID = (id) => document.getElementById(id);

// ---- helpers --------------------------------------------------------------

// Every text gets onto the page as text: users choose names freely.
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
  for (const [key, value] of Object.entries(attributes)) if (value != null && value !== "") element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

// JSON has no NaN and no infinity: they come as strings.
const numberOf = (v) => (v === "NaN" || v === "Infinity" || v === "-Infinity" ? Number(v) : v);

function formatNumber(v) {
  v = numberOf(v);
  if (v == null) return "";
  if (Number.isNaN(v)) return "NaN";
  if (!Number.isFinite(v)) return v > 0 ? "inf" : "-inf";
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

const formatValue = (v) => (v == null ? "" : typeof v === "object" ? JSON.stringify(v) : String(v));

function compareValues(a, b) {
  a = numberOf(a);
  b = numberOf(b);
  if (a == null || b == null) return (a == null) - (b == null);
  if (typeof a === "number" && typeof b === "number") return Number.isNaN(a) || Number.isNaN(b) ? Number.isNaN(a) - Number.isNaN(b) : a - b;
  return textOrder.compare(String(a), String(b));
}
const textOrder = new Intl.Collator("en", { numeric: true });

const settingOf = (run, key) => (key in run.settings ? run.settings[key] : data.common[key]);

// ---- the state, kept in the address ---------------------------------------

const state = { filter: "", sort: "", metric: "", smooth: "0", logy: "", logx: "", group: "", over: "", draw: "", run: "", hide: "" };
for (const [key, value] of new URLSearchParams(location.hash.slice(1))) if (key in state) state[key] = value;

function keepState() {
  const kept = Object.entries(state).filter(([key, value]) => value && !(key === "smooth" && value === "0"));
  history.replaceState(null, "", location.pathname + location.search + (kept.length ? "#" + new URLSearchParams(kept) : ""));
}

// ---- which runs are drawn -------------------------------------------------

// Each drawn run holds a place, which gives it a colour and a dash; a new run takes
// the lowest free place, so that few curves differ most. Runs are known by their ids.
const drawn = new Map();
function draw(ids) {
  const taken = new Set(drawn.values());
  let place = 0;
  for (const id of ids) {
    if (drawn.has(id)) continue;
    while (taken.has(place)) place++;
    drawn.set(id, place);
    taken.add(place);
  }
}
const colorAt = (place) => `var(--c${place % 8})`;
const dashAt = (place) => ["", "7 4", "2 3", "10 3 2 3", "14 5", "10 3 2 3 2 3"][Math.floor(place / 8) % 6];
function swatchAt(place) {
  const swatch = make("span", { class: "swatch", "aria-hidden": "true" });
  swatch.style.borderTopColor = place == null ? "transparent" : colorAt(place);
  swatch.style.borderTopStyle = place != null && dashAt(place) ? "dashed" : "solid";
  return swatch;
}
function choose(id, chosen) {
  if (chosen) draw([id]);
  else drawn.delete(id);
  const row = rowOf.get(id);
  if (row) row.update();
  drawnChanged();
}
function drawnChanged() {
  state.draw = [...drawn.keys()].slice(0, 60).join(" ") || "none";
  keepState();
  drawCharts();
}

// ---- charts ---------------------------------------------------------------

const margin = { top: 18, right: 14, bottom: 30, left: 58 };
const zoom = {}; // axis -> [from, to]

// Ticks are round values, each with the step that its label must show. Their number is
// about count; those of a log axis are at least half of its part apart.
function ticksBetween(low, high, count, log) {
  const ticks = [];
  if (log && high / low > 5) {
    const decades = Math.log10(high / low), least = decades / (2 * count);
    const steps = [[1, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]].find((all) => all.length === 1 || all.every((s, i) => Math.log10((all[i + 1] || 10) / s) >= least));
    const every = steps.length > 1 ? 1 : Math.ceil(decades / count);
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += every)
      for (const s of steps) {
        const v = s * 10 ** power;
        if (v >= low && v <= high) ticks.push([v, 10 ** power]);
      }
    return ticks;
  }
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((f) => f * power >= rough * 0.999) * power;
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step && ticks.length < 30; i++) ticks.push([i * step + 0, step]); // + 0: never -0
  return ticks;
}

// A label has the digits that tell values apart which differ by step.
function formatTick(v, step) {
  const size = Math.abs(v), trimmed = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
  if (size < step / 1000) return "0"; // but for rounding
  if (size >= 1e15 || size < 1e-4) {
    const digits = Math.floor(Math.log10(size)) - Math.floor(Math.log10(step) + 1e-9);
    const [mantissa, exponent] = v.toExponential(Math.min(15, Math.max(0, digits))).split("e");
    return trimmed(mantissa) + "e" + exponent;
  }
  const [unit, name] = size >= 1e9 ? [1e9, "G"] : size >= 1e6 ? [1e6, "M"] : size >= 1e4 ? [1e3, "k"] : [1, ""];
  const decimals = -Math.floor(Math.log10(step / unit) + 1e-9);
  return trimmed((v / unit).toFixed(Math.min(15, Math.max(0, decimals)))) + name;
}

// Times that differ by less than formatSeconds shows are numbers of seconds.
const formatTime = (v, step) => ((v >= 3600 && step < 60) || (v >= 60 && step < 1) || (v >= 1 && step < 0.1) || step < 0.001 ? formatTick(v, step) + "s" : formatSeconds(v));

// Smoothed values, without a bias to the first.
function smoothed(values, weight) {
  let sum = 0, norm = 0;
  return values.map((v) => {
    if (v == null || !Number.isFinite(v) || weight === 0) return v;
    sum = weight * sum + (1 - weight) * v;
    norm = weight * norm + (1 - weight);
    return sum / norm;
  });
}

// A line is {name, place, points: [[x, y, low, high] or null for a gap], lost: [x of NaN and inf]}.
function linesOf(axis) {
  const logX = byID("log-x").checked, logY = byID("log-y").checked, weight = Number(byID("smooth").value);
  const visible = (x, y) => y != null && Number.isFinite(y) && (!logY || y > 0) && (!logX || x > 0);
  const lines = [];
  const curves = data.curves[byID("metric").value] || {};
  for (const id of drawn.keys()) {
    const run = runOf.get(id), curve = curves[id];
    if (!run || (curve === undefined && data.live)) continue; // not read yet
    if (!curve) {
      if (state.group) lines.push({ id, run, name: run.name, place: drawn.get(id), points: [], lost: [] }); // its group counts it
      continue;
    }
    const raw = curve.value.map(numberOf), values = smoothed(raw, weight);
    const points = [], lost = [];
    curve[axis].forEach((x, i) => {
      if (zoom[axis] && (x < zoom[axis][0] || x > zoom[axis][1])) return;
      const y = values[i], low = curve.low ? numberOf(curve.low[i]) : raw[i], high = curve.high ? numberOf(curve.high[i]) : raw[i];
      if (visible(x, y)) points.push([x, y, visible(x, low) ? low : y, visible(x, high) ? high : y]);
      else if (y == null || !Number.isFinite(y)) {
        points.push(null);
        lost.push(x);
      }
    });
    if (points.some((p) => p) || lost.length || state.group) lines.push({ id: run.id, run, name: run.name, place: drawn.get(run.id), points, lost });
  }
  return state.group ? groupsOf(lines) : lines;
}

function valueAt(points, x) {
  for (let i = 0; i < points.length; i++) {
    if (points[i][0] === x) return points[i][1];
    if (points[i][0] > x) {
      if (i === 0) return null;
      const [a, b] = [points[i - 1], points[i]];
      return a[1] + ((b[1] - a[1]) * (x - a[0])) / (b[0] - a[0]);
    }
  }
  return null;
}

// The group of a run, and the place of each group, which gives it the same colour in
// every chart.
const groupOf = (run) => formatValue(settingOf(run, state.group));
function groupPlaces() {
  const groups = new Set(data.runs.filter((r) => drawn.has(r.id)).map(groupOf));
  return new Map([...groups].sort(compareValues).map((group, place) => [group, place]));
}

// Runs that share the value of a setting become their mean with one standard
// deviation. A run that diverged or failed, or has no values, has no part in it and is
// counted.
function groupsOf(lines) {
  const groups = new Map();
  for (const line of lines) {
    const value = groupOf(line.run);
    if (!groups.has(value)) groups.set(value, []);
    groups.get(value).push(line);
  }
  const places = groupPlaces();
  return [...groups].sort(([a], [b]) => compareValues(a, b)).map(([value, all]) => {
    const members = all.filter((l) => !["diverged", "failed"].includes(l.run.outcome) && l.points.some((p) => p));
    const outcomes = all.filter((l) => !members.includes(l)).map((l) => (["diverged", "failed"].includes(l.run.outcome) ? l.run.outcome : "missing"));
    const lost = ["diverged", "failed", "missing"].map((o) => [outcomes.filter((x) => x === o).length, o]).filter(([n]) => n).map(([n, o]) => `${n} ${o}`);
    let points = [];
    if (members.length === 1) points = members[0].points;
    else if (members.length > 1) {
      const whole = members.map((l) => l.points.filter((p) => p));
      const longest = whole.reduce((a, b) => (b.length > a.length ? b : a));
      for (const [x] of longest) {
        const values = whole.map((p) => valueAt(p, x));
        if (values.includes(null)) continue;
        const mean = values.reduce((a, b) => a + b) / values.length;
        const sd = Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / (values.length - 1));
        points.push([x, mean, mean - sd, mean + sd]);
      }
    }
    const name = `${state.group} ${value} (${[members.length === 1 ? "1 run" : members.length ? "mean of " + members.length : "", ...lost].filter(Boolean).join(", ")})`;
    return { id: value, name, place: places.get(value), points, lost: [], run: null };
  });
}

// The results of the drawn runs against a setting, each with the name of its run.
function linesOver() {
  const metric = byID("metric").value, key = state.over, logX = byID("log-x").checked, logY = byID("log-y").checked;
  const lines = new Map(), places = groupPlaces(), grouped = state.group && state.group !== key;
  for (const run of data.runs) {
    if (!drawn.has(run.id)) continue;
    const x = settingOf(run, key), y = numberOf(run.best[metric]);
    if (typeof x !== "number" || (logX && x <= 0)) continue;
    const name = grouped ? `${state.group} ${groupOf(run)}` : "all drawn runs";
    if (!lines.has(name)) lines.set(name, { name, id: name, place: grouped ? places.get(groupOf(run)) : 0, points: [], lost: [], run: null, dots: true });
    if (run.outcome === "diverged" || y == null || !Number.isFinite(y) || (logY && y <= 0)) lines.get(name).lost.push(x);
    else lines.get(name).points.push([x, y, y, y, run.name]);
  }
  for (const line of lines.values()) line.points.sort((a, b) => a[0] - b[0]);
  return [...lines.values()];
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
  if (b - a <= 1e-9 * Math.max(Math.abs(a), Math.abs(b))) [a, b] = log ? [a - 0.7, b + 0.7] : a === 0 ? [0, 1] : [a - Math.abs(a) / 10, b + Math.abs(b) / 10];
  [a, b] = [a - room * (b - a), b + room * (b - a)];
  const place = (v) => from + ((f(v) - a) / (b - a)) * (to - from);
  return { place, from, low: back(a), high: back(b), log, value: (p) => back(a + ((p - from) / (to - from)) * (b - a)) };
}

// More curves than this are painted on a canvas, in slices between which the page
// answers: an SVG of thousands of paths is laid out and painted anew at every change
// of the page.
const mostElements = 100, slice = 15; // milliseconds
let drawing = 0; // counts the drawings; a new one ends the one before
const breath = () => new Promise((resume) => setTimeout(resume));

// drawChart returns the lines that it drew, or null if a newer drawing came.
async function drawChart(holder, axis, label, format, turn) {
  const width = Math.max(280, holder.clientWidth), height = window.innerWidth <= 600 ? 260 : 320;
  const lines = axis === "over" ? linesOver() : linesOf(axis), metric = byID("metric").value;
  const xs = [], ys = [];
  for (const line of lines) {
    line.whole = line.points.filter((p) => p);
    for (const p of line.whole) {
      xs.push(p[0]);
      ys.push(p[1], p[2], p[3]);
    }
    for (const v of line.lost) xs.push(v);
  }
  const y = scaleOf(ys, byID("log-y").checked, height - margin.bottom, margin.top, 0.04);
  const levels = ys.length ? ticksBetween(y.low, y.high, 5, y.log).map(([v, step]) => [v, formatTick(v, step)]) : [];
  const left = Math.max(margin.left, ...levels.map(([, label]) => 7 * label.length + 12));
  const x = scaleOf(xs, byID("log-x").checked, left, width - margin.right, axis === "over" ? 0.03 : 0);
  const svg = makeSVG("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${metric} against ${label}, ${lines.length} curves` });
  const message = drawn.size === 0 ? "choose runs in the table" : reading ? "reading the curves" : "the drawn runs have no values here";
  if (!lines.length) svg.append(makeSVG("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, message));
  for (const [v, label] of levels) {
    svg.append(makeSVG("line", { class: "rule", x1: left, x2: width - margin.right, y1: y.place(v), y2: y.place(v) }));
    svg.append(makeSVG("text", { x: left - 6, y: y.place(v) + 4, "text-anchor": "end" }, label));
  }
  let free = 0; // where the next label may begin
  for (const [v, step] of lines.length ? ticksBetween(x.low, x.high, width / 90, x.log) : []) {
    const at = x.place(v), label = format(v, step), wide = 7 * label.length, end = Math.min(width - 2, at + wide / 2);
    svg.append(makeSVG("line", { class: "rule", y1: margin.top, y2: height - margin.bottom, x1: at, x2: at }));
    if (end - wide < free) continue;
    free = end + 6;
    svg.append(makeSVG("text", { x: end - wide / 2, y: height - 10, "text-anchor": "middle" }, label));
  }
  const many = lines.length > mostElements || lines.some((l) => l.dots && l.whole.length > mostElements);
  const pen = many ? canvasPen(width, height) : svgPen(svg);
  let rested = performance.now();
  for (const part of [drawBand, drawLine])
    for (const line of lines) {
      part(pen, line, x, y, many);
      if (!many || performance.now() - rested < slice) continue;
      await breath();
      if (turn !== drawing) return null;
      rested = performance.now();
    }
  holder.replaceChildren(svg, ...(pen.canvas ? [pen.canvas] : []));
  if (lines.length) followPointer(holder, svg, lines, x, y, width, height, axis, label);
  return lines;
}

const placed = (px, py) => px.toFixed(1) + " " + py.toFixed(1);

// The range of the values that a curve averages.
function drawBand(pen, line, x, y) {
  if (!line.whole.some((p) => p[2] < p[3])) return;
  const above = line.whole.map((p) => placed(x.place(p[0]), y.place(p[3]))), below = line.whole.map((p) => placed(x.place(p[0]), y.place(p[2])));
  pen.band("M" + above.join("L") + "L" + below.reverse().join("L") + "Z", line.place);
}

function drawLine(pen, line, x, y, many) {
  let path = "", command = "M";
  for (const p of line.points) {
    if (!p) { command = "M"; continue; }
    path += command + placed(x.place(p[0]), y.place(p[1]));
    command = "L";
  }
  if (!line.dots) pen.line(path || "M0 0", line.place);
  // One among many curves shows its points only if it is nothing else.
  if (line.dots || line.whole.length === 1 || (!many && line.points.length <= 30))
    for (const p of line.whole) pen.dot(x.place(p[0]), y.place(p[1]), line.dots ? 4 : 2.4, line.place);
  let last = -Infinity;
  for (const v of line.lost) {
    const px = x.place(v);
    if (px - last < 10) continue;
    last = px;
    pen.lost(`M${px - 4} 6l8 8m0 -8l-8 8`, line);
  }
}

// A pen draws in the colour and dash of a place.
const svgPen = (svg) => ({
  band: (d, place) => svg.append(makeSVG("path", { class: "band", d, fill: colorAt(place), stroke: colorAt(place) })),
  line: (d, place) => svg.append(makeSVG("path", { class: "line", d, stroke: colorAt(place), "stroke-dasharray": dashAt(place) })),
  dot: (px, py, r, place) => svg.append(makeSVG("circle", { cx: px.toFixed(1), cy: py.toFixed(1), r, fill: colorAt(place) })),
  lost: (d, line) => {
    const mark = makeSVG("path", { class: "line lost", d, stroke: colorAt(line.place) });
    mark.append(makeSVG("title", {}, `${line.name}: not a finite number`));
    svg.append(mark);
  },
});

function canvasPen(width, height) {
  const sharp = window.devicePixelRatio || 1;
  const canvas = make("canvas", { width: Math.round(width * sharp), height: Math.round(height * sharp), "aria-hidden": "true" });
  const context = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  const colors = Array.from({ length: 8 }, (_, i) => style.getPropertyValue("--c" + i));
  context.scale(sharp, sharp);
  context.lineJoin = "round";
  const stroke = (d, place, width, dash) => {
    context.strokeStyle = colors[place % 8];
    context.lineWidth = width;
    context.setLineDash(dash.split(" ").filter(Boolean).map(Number));
    context.stroke(new Path2D(d));
  };
  return {
    canvas,
    band: (d, place) => {
      context.fillStyle = colors[place % 8];
      context.globalAlpha = 0.2;
      context.fill(new Path2D(d));
      context.globalAlpha = 0.4;
      stroke(d, place, 1, "");
      context.globalAlpha = 1;
    },
    line: (d, place) => stroke(d, place, 1.8, dashAt(place)),
    dot: (px, py, r, place) => {
      context.fillStyle = colors[place % 8];
      context.beginPath();
      context.arc(px, py, r, 0, 2 * Math.PI);
      context.fill();
    },
    lost: (d, line) => stroke(d, line.place, 2, ""),
  };
}

// The point of a line whose x is nearest; its points ascend.
function nearestPoint(points, x) {
  let from = 0, to = points.length - 1;
  if (to < 0) return null;
  while (to - from > 1) {
    const middle = (from + to) >> 1;
    if (points[middle][0] <= x) from = middle;
    else to = middle;
  }
  return Math.abs(points[to][0] - x) < Math.abs(points[from][0] - x) ? points[to] : points[from];
}

// A pointer or a finger reads values; dragging a mouse over a part zooms into it.
function followPointer(holder, svg, lines, x, y, width, height, axis, label) {
  const cross = makeSVG("line", { class: "cross", y1: margin.top, y2: height - margin.bottom, visibility: "hidden" });
  const range = makeSVG("rect", { class: "range", y: margin.top, height: height - margin.top - margin.bottom, visibility: "hidden" });
  const tip = make("div", { class: "tip", hidden: true });
  svg.append(range, cross);
  holder.append(tip);
  const valueOf = (event) => {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * width;
    return [x.value(Math.min(width - margin.right, Math.max(x.from, at))), at, ((event.clientY - box.top) / box.height) * height];
  };
  const hide = () => { tip.hidden = true; cross.setAttribute("visibility", "hidden"); };
  let from = null;
  const read = (event) => {
    const [value, at, level] = valueOf(event);
    const close = (l) => l.whole.filter((p) => Math.abs(x.place(p[0]) - at) <= 12); // several runs have the same setting
    const near = lines.flatMap((l) => (l.dots ? close(l) : [nearestPoint(l.whole, value)]).map((point) => ({ line: l, point }))).filter((n) => n.point)
      .map((n) => ({ ...n, far: Math.abs(y.place(n.point[1]) - level) }))
      .sort((a, b) => a.far - b.far).slice(0, 10)
      .sort((a, b) => b.point[1] - a.point[1]);
    cross.setAttribute("x1", x.place(value));
    cross.setAttribute("x2", x.place(value));
    cross.setAttribute("visibility", "visible");
    const place = axis === "seconds" ? formatSeconds(value) : axis === "over" ? formatNumber(value) : Math.round(value).toLocaleString("en");
    tip.replaceChildren(make("div", {}, `${place} ${label}`), ...near.map((n) => {
      const range = n.point[2] < n.point[3] ? ` (${formatNumber(n.point[2])} to ${formatNumber(n.point[3])})` : "";
      return make("div", {}, swatchAt(n.line.place), `${formatNumber(n.point[1])}${range}  ${n.point[4] ?? n.line.name}`);
    }));
    tip.hidden = false;
    tip.style.left = at < width / 2 ? "auto" : "66px";
    tip.style.right = at < width / 2 ? "18px" : "auto";
    if (from != null) {
      const [a, b] = [x.place(from), x.place(value)].sort((p, q) => p - q);
      range.setAttribute("x", a);
      range.setAttribute("width", b - a);
      range.setAttribute("visibility", "visible");
    }
  };
  svg.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse" && from == null) hide(); });
  svg.addEventListener("pointermove", read);
  svg.addEventListener("pointerdown", (event) => {
    read(event);
    if (event.pointerType !== "mouse" || axis === "over") return;
    from = valueOf(event)[0];
    svg.setPointerCapture(event.pointerId);
  });
  svg.addEventListener("pointerup", (event) => {
    if (from == null) return;
    const to = valueOf(event)[0];
    if (Math.abs(x.place(to) - x.place(from)) > 8) {
      zoom[axis] = [from, to].sort((a, b) => a - b);
      byID("zoom-out").hidden = false;
      drawCharts();
    }
    from = null;
    range.setAttribute("visibility", "hidden");
  });
}

// live.js asks the server for the curves and details that a served page lacks.
let reading = false;
let needCurves = () => {};
let needDetails = async () => {};

// Many curves are computed and painted after the page has shown the reader's choice.
async function drawCharts() {
  const turn = ++drawing;
  needCurves();
  byID("smooth-value").textContent = byID("smooth").value;
  byID("over-figure").hidden = !state.over;
  drawComparison();
  const charts = [["by-tokens", "tokens", "tokens", formatTick], ["by-time", "seconds", "of training", formatTime], ["by-steps", "step", "steps", formatTick],
    ...(state.over ? [["by-setting", "over", state.over, formatTick]] : [])];
  for (const [id, ...chart] of charts) {
    if (drawn.size > mostElements) await breath();
    if (turn !== drawing) return;
    const lines = await drawChart(byID(id), ...chart, turn);
    if (!lines) return;
    if (id === "by-steps") drawLegend(lines);
  }
}

function drawLegend(lines) {
  const most = 16;
  byID("legend").replaceChildren(...lines.slice(0, most).map((l) => make("span", {}, swatchAt(l.place), l.name)), lines.length > most ? `and ${lines.length - most} more` : "");
}

// ---- the table of runs ----------------------------------------------------

// Results come before settings: many settings may differ.
let columns = [];
function makeColumns() {
  const kinds = ["model.kind", "optimizer.kind"].filter((k) => data.differing.includes(k) || data.common[k] != null);
  const settingColumn = (key) => ({ title: key, value: (r) => settingOf(r, key) });
  columns = [
    { title: "name", always: true, value: (r) => r.name, show: (r) => make("button", { type: "button", class: "name", on: { click: () => showDetail(r) } }, r.name || "(no name)") },
    { title: "status", value: (r) => r.status, show: (r) => make("span", { class: r.status }, r.status + (r.outcome === "diverged" ? ", diverged" : "")) },
    { title: "progress", value: progressOf, show: progressBar, hideUnless: () => data.runs.some((r) => r.status === "running") },
    ...kinds.map(settingColumn),
    ...(data.datasets > 1 ? [{ title: "dataset", value: (r) => r.dataset.name + " " + r.dataset.fingerprint.slice(0, 8) }] : []),
    ...data.outcomes.flatMap((metric) => {
      const result = { title: "best " + metric, value: (r) => (r.outcome === "diverged" && r.metrics[metric] != null ? "NaN" : r.best[metric]), number: true, lowest: metric.endsWith("_ppl") && !metric.includes("unigram") };
      const last = { title: metric.includes("unigram") ? metric : "last " + metric, value: (r) => r.metrics[metric], number: true };
      return metric.endsWith("_ppl") && !metric.includes("unigram") ? [result, last] : [last];
    }),
    { title: "steps", value: (r) => r.steps, number: true },
    { title: "time", value: (r) => r.seconds, number: true, text: (r) => formatSeconds(r.seconds) },
    ...data.differing.filter((key) => !kinds.includes(key)).map(settingColumn),
    { title: "started", value: (r) => r.started, text: (r) => r.started.slice(0, 16).replace("T", " ") },
    { title: "tags", value: (r) => r.tags.join(", ") },
  ].filter((c) => !c.hideUnless || c.hideUnless());
  const hidden = new Set(state.hide ? state.hide.split("|") : data.differing.filter((key) => !kinds.includes(key) && !tellsApart(key) && key !== state.sort.replace(/^-/, "")));
  byID("columns-title").textContent = "Columns" + (hidden.size ? `, ${columns.filter((c) => hidden.has(c.title)).length} of ${columns.length} hidden` : "");
  byID("columns").replaceChildren(...columns.filter((c) => !c.always).map((c) => {
    const box = make("input", { type: "checkbox", on: { change: () => {
      if (box.checked) hidden.delete(c.title);
      else hidden.add(c.title);
      state.hide = [...hidden].join("|") || "none";
      keepState();
      makeColumns();
      drawTable();
    } } });
    box.checked = !hidden.has(c.title);
    return make("label", {}, box, c.title);
  }));
  columns = columns.filter((c) => !hidden.has(c.title));
  limitRows();
  best = null;
  rowOf.clear();
}

// A setting that has one value wherever it exists says no more than that it exists,
// which another setting decides: until the reader wants its column, it is hidden.
function tellsApart(key) {
  let first;
  for (const run of data.runs) {
    if (!(key in run.settings)) continue;
    const value = formatValue(run.settings[key]);
    first ??= value;
    if (value !== first) return true;
  }
  return false;
}

// The share of the run that is done, and the time left.
function progressOf(r) {
  return r.status === "running" ? r.progress : null;
}
function progressBar(r) {
  const part = progressOf(r);
  if (part == null) return "";
  const left = part > 0 ? formatSeconds((r.seconds * (1 - part)) / part) + " left" : "";
  return make("span", {}, make("progress", { max: 1, value: part, "aria-label": "progress of " + r.name }), ` ${Math.round(100 * part)} % ${left}`);
}

const rowOf = new Map(); // id -> row, made when it is first shown
let matching = null; // ids that a condition selects, on a served page
let rowsAtOnce = 40; // more follow as the reader scrolls
let shownRows = rowsAtOnce;

// The time to show rows is that of their cells: a wide table has fewer at once, though
// always more than fit into its box.
function limitRows() {
  const all = shownRows === rowsAtOnce;
  rowsAtOnce = Math.max(20, Math.min(40, Math.round(1000 / columns.length)));
  if (all) shownRows = rowsAtOnce;
}

function listed() {
  const words = matching ? [] : state.filter.toLowerCase().split(/\s+/).filter(Boolean);
  const runs = data.runs.filter((r) => (matching ? matching.has(r.id) : words.every((w) => r.text.includes(w))));
  const falling = state.sort.startsWith("-"), c = columns.find((c) => c.title === state.sort.replace(/^-/, ""));
  if (c) {
    const keys = new Map(runs.map((r) => [r, c.value(r)]));
    runs.sort((a, b) => {
      const x = keys.get(a), y = keys.get(b);
      return x == null || y == null ? compareValues(x, y) : (falling ? -1 : 1) * compareValues(x, y);
    });
  }
  return runs;
}

function makeRow(run) {
  const box = make("input", { type: "checkbox", "aria-label": "draw " + run.name, on: { change: () => choose(run.id, box.checked) } });
  const cell = make("td", {}, make("span"), box);
  const cells = columns.map((c) => make("td", { class: c.number ? "number" : null }, c.show ? c.show(run) : c.text ? c.text(run) : c.number ? formatNumber(c.value(run)) : formatValue(c.value(run))));
  const row = make("tr", {}, cell, ...cells);
  row.update = (best) => {
    box.checked = drawn.has(run.id);
    cell.firstChild.replaceWith(swatchAt(drawn.get(run.id)));
    if (best) columns.forEach((c, i) => { if (c.lowest) cells[i].classList.toggle("best", best.has(c) && numberOf(c.value(run)) === best.get(c)); });
  };
  return row;
}

function drawHead() {
  byID("head").replaceChildren(make("tr", {}, make("th", { scope: "col" }, "draw"), ...columns.map((c) => {
    const header = make("th", { scope: "col", class: c.number ? "number" : null });
    const button = make("button", { type: "button", on: { click: () => {
      state.sort = state.sort === c.title ? "-" + c.title : c.title;
      keepState();
      markSorted();
      drawRows();
    } } });
    header.append(button);
    header.column = c;
    return header;
  })));
  markSorted();
}

// The headers stay in place while the rows change: the keyboard's focus stays too.
function markSorted() {
  for (const header of byID("head").querySelectorAll("th")) {
    const c = header.column;
    if (!c) continue;
    const direction = state.sort === c.title ? "ascending" : state.sort === "-" + c.title ? "descending" : null;
    if (direction) header.setAttribute("aria-sort", direction);
    else header.removeAttribute("aria-sort");
    header.firstChild.textContent = c.title + (direction === "ascending" ? " ▴" : direction === "descending" ? " ▾" : "");
  }
}

let best = null; // column -> its lowest value; null after the runs have changed
function findBest() {
  best = new Map();
  for (const c of columns.filter((c) => c.lowest)) {
    const values = data.runs.map((r) => numberOf(c.value(r))).filter((v) => v != null && Number.isFinite(v));
    if (values.length > 1) best.set(c, values.reduce((a, b) => Math.min(a, b)));
  }
}

function drawRows() {
  if (!best) findBest();
  const runs = listed();
  byID("body").replaceChildren(...runs.slice(0, shownRows).map((run) => {
    if (!rowOf.has(run.id)) rowOf.set(run.id, makeRow(run));
    const row = rowOf.get(run.id);
    row.update(best);
    return row;
  }));
  byID("shown").textContent = `${runs.length} of ${data.runs.length} runs`;
  byID("more").hidden = runs.length <= shownRows;
  byID("more").textContent = `Show ${Math.min(rowsAtOnce, runs.length - shownRows)} more`;
}

function drawTable() {
  drawHead();
  drawRows();
}

// ---- details --------------------------------------------------------------

// A key may be broken before its dots and underscores.
const breakable = (key) => key.split(/(?=[._])/).flatMap((part) => [make("wbr"), part]);
function pairsTable(title, pairs) {
  const rows = pairs.filter(([, v]) => v != null && v !== "").map(([k, v]) => make("tr", {}, make("th", { scope: "row" }, ...breakable(k)), make("td", { class: "wide" }, formatValue(v))));
  return rows.length ? make("div", {}, make("h3", {}, title), make("table", {}, make("tbody", {}, ...rows))) : "";
}

async function showDetail(r, jump = true) {
  state.run = r.id;
  keepState();
  if (!r.events) await needDetails(r);
  if (state.run !== r.id) return;
  const samples = r.events.filter((e) => e.kind === "sample"), events = r.events.filter((e) => e.kind !== "sample");
  const perplexities = ["val", "test"].filter((s) => r.metrics[s + "_ppl"] != null || r.metrics[s + "_unigram_ppl"] != null).map((s) =>
    [s === "val" ? "valid" : s, `best ${formatNumber(r.best[s + "_ppl"])}, last ${formatNumber(r.metrics[s + "_ppl"])}; unigram ${formatNumber(r.metrics[s + "_unigram_ppl"])}`]);
  const koala = Object.entries(r.metrics).filter(([k]) => k.startsWith("koala_")).map(([k, v]) => [k, formatNumber(v)]);
  byID("detail").replaceChildren(
    make("h3", { tabindex: "-1" }, r.name),
    make("div", { class: "columns" },
      pairsTable("Run", [["id", r.id], ["status", r.status + (r.reason ? ": " + r.reason : "")], ["note", r.note], ["tags", r.tags.join(", ")],
        ["started", r.started], ["ended", r.ended], ["trained", `${r.steps.toLocaleString("en")} steps, ${r.tokens.toLocaleString("en")} tokens, ${formatSeconds(r.seconds)}`], ["parent", r.parent]]),
      pairsTable("Perplexity", perplexities),
      pairsTable("KOALA", koala),
      pairsTable("Dataset", [["name", r.dataset.name], ["path", r.dataset.path], ["fingerprint", r.dataset.fingerprint], ...Object.entries(r.dataset_facts || {})]),
      pairsTable("Environment", [["host", r.host], ["cpu", r.cpu], ["device", r.device], ["threads", r.threads], ["git", r.git.commit + (r.git.dirty ? " with local changes" : "")],
        ["command", r.command.join(" ")], ...Object.entries(r.versions || {})]),
      pairsTable("Settings", Object.entries({ ...data.common, ...r.settings }).sort(([a], [b]) => compareValues(a, b))),
      pairsTable("Metrics", Object.entries(r.metrics).sort(([a], [b]) => compareValues(a, b)).map(([k, v]) => [k, formatNumber(v)])),
      pairsTable("Events", events.map((e) => [e.time.slice(0, 19).replace("T", " ") + " " + e.kind, e.message]))),
    ...(r.git.diff ? [make("h3", {}, "Code that differs from the commit"), make("pre", { tabindex: "0", "aria-label": "diff" }, r.git.diff)] : []),
    ...(samples.length ? [make("h3", {}, "Samples"), ...samples.map((s) => make("pre", { tabindex: "0", "aria-label": "sample of " + s.time }, s.message))] : []));
  if (!jump) return;
  byID("detail").querySelector("h3").focus();
  byID("detail-title").scrollIntoView();
}

// The settings in which the drawn runs differ, side by side, with their results.
function drawComparison() {
  const runs = data.runs.filter((r) => drawn.has(r.id)).slice(0, 8);
  byID("comparison-section").hidden = runs.length < 2;
  if (runs.length < 2) return;
  const keys = data.differing.filter((key) => runs.some((r) => formatValue(settingOf(r, key)) !== formatValue(settingOf(runs[0], key))));
  const rows = [
    ...keys.map((key) => [key, ...runs.map((r) => formatValue(settingOf(r, key)))]),
    ...data.outcomes.map((m) => ["best " + m, ...runs.map((r) => formatNumber(r.outcome === "diverged" && r.metrics[m] != null ? "NaN" : r.best[m]))]),
  ].filter(([, ...values]) => values.some((v) => v !== ""));
  byID("comparison").replaceChildren(
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "setting"), ...runs.map((r) => make("th", { scope: "col" }, swatchAt(drawn.get(r.id)), r.name)))),
    make("tbody", {}, ...rows.map(([key, ...values]) => make("tr", {}, make("th", { scope: "row" }, key), ...values.map((v) => make("td", {}, v))))));
}

// ---- start ----------------------------------------------------------------

const runOf = new Map(); // id -> run
function indexRuns() {
  best = null;
  runOf.clear();
  for (const run of data.runs) {
    runOf.set(run.id, run);
    run.text = [run.id, run.name, run.status, run.outcome, run.note, ...run.tags, ...Object.entries(run.settings).map(([k, v]) => k + "=" + formatValue(v))].join(" ").toLowerCase();
  }
}

function fillSelect(id, options, chosen) {
  byID(id).replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  byID(id).value = options.some(([value]) => value === chosen) ? chosen : options.length ? options[0][0] : "";
}

// show draws everything that depends on which runs and settings there are.
function show() {
  indexRuns();
  byID("about").textContent = `${data.cut ? "only the first " : ""}${data.runs.length} ${data.runs.length === 1 ? "run" : "runs"}${data.cut ? " (--limit 0 takes all)" : ""}, ${data.live ? "live" : "written " + data.written.slice(0, 16).replace("T", " ") + " UTC"}`;
  byID("warning").hidden = data.datasets < 2;
  byID("warning").textContent = `These runs were trained on ${data.datasets} different datasets: their perplexities do not compare.`;
  fillSelect("metric", data.metrics.map((m) => [m, m]), state.metric || byID("metric").value);
  const numeric = data.differing.filter((key) => data.runs.some((r) => typeof r.settings[key] === "number"));
  fillSelect("group", [["", "nothing"], ...data.differing.map((k) => [k, k])], state.group);
  fillSelect("over", [["", "nothing"], ...numeric.map((k) => [k, k])], state.over);
  const common = Object.entries(data.common).sort(([a], [b]) => compareValues(a, b));
  byID("common").replaceChildren(make("caption", { hidden: true }, "Settings that all runs share"), make("tbody", {}, ...common.map(([k, v]) => make("tr", {}, make("th", { scope: "row" }, k), make("td", { class: "wide" }, formatValue(v))))));
  makeColumns();
  drawTable();
  drawCharts();
}

// Until the reader chooses runs, the page draws those that are running or best.
function drawFirst() {
  const ids = new Set(data.runs.map((r) => r.id));
  draw((state.draw ? state.draw.split(" ") : data.drawn).filter((id) => ids.has(id)));
}
drawFirst();
byID("smooth").value = state.smooth;
byID("log-y").checked = state.logy === "1";
byID("log-x").checked = state.logx === "1";
byID("filter").value = state.filter;
show();
byID("controls").addEventListener("input", () => {
  Object.assign(state, { metric: byID("metric").value, smooth: byID("smooth").value, logy: byID("log-y").checked ? "1" : "", logx: byID("log-x").checked ? "1" : "",
    group: byID("group").value, over: byID("over").value });
  keepState();
  drawCharts();
});
byID("controls").addEventListener("submit", (event) => event.preventDefault());
byID("zoom-out").addEventListener("click", () => { for (const axis in zoom) delete zoom[axis]; byID("zoom-out").hidden = true; drawCharts(); });
// A filter with an operator is a condition; other text is words to look for. live.js
// asks the server about conditions, which a file cannot.
const isCondition = (text) => /[=<>!]|\bin\b|\bcontains\b|\(|^diverged$/.test(text);
let filterWith = (text) => {
  byID("filter-error").textContent = isCondition(text) ? "A file looks for words. For a condition, use koala-lm report serve, or make the file with report html --where." : "";
};
if (state.filter) filterWith(state.filter);
byID("filter").addEventListener("input", () => {
  state.filter = byID("filter").value;
  keepState();
  shownRows = rowsAtOnce;
  matching = null;
  filterWith(state.filter);
  drawRows();
});
const showMore = () => { shownRows += rowsAtOnce; drawRows(); };
byID("more").addEventListener("click", () => {
  const first = shownRows;
  showMore();
  byID("body").rows[first]?.querySelector("button").focus(); // the keyboard's focus stays, though this button may go
});
// On paper, nobody scrolls.
window.addEventListener("beforeprint", () => { shownRows = Infinity; drawRows(); });
window.addEventListener("afterprint", () => { shownRows = rowsAtOnce; drawRows(); });
const box = byID("runs").parentElement;
box.addEventListener("scroll", () => { if (!byID("more").hidden && box.scrollTop + box.clientHeight > box.scrollHeight - 400) showMore(); });
byID("show-shown").addEventListener("click", () => { drawn.clear(); draw(listed().map((r) => r.id)); drawRows(); drawnChanged(); });
byID("show-none").addEventListener("click", () => { drawn.clear(); drawRows(); drawnChanged(); });
let resizing = 0;
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawCharts()); // a canvas keeps its colours
window.addEventListener("resize", () => { cancelAnimationFrame(resizing); resizing = requestAnimationFrame(() => drawCharts()); });
const chosen = data.runs.find((r) => r.id === state.run) || (data.runs.length === 1 ? data.runs[0] : null);
if (chosen && chosen.events) showDetail(chosen, false);
