"use strict";
// Draws what #drawn holds. Colours come from the style sheet, so that light and dark are said once.

const drawn = JSON.parse(document.getElementById("drawn").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 860px)");
let heatMeasure = null;

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const series = () => ["blue", "orange", "green", "purple", "sky", "amber"].map(color);
const times = (step = drawn.bucket_seconds) => Array.from({ length: Math.ceil(drawn.num_buckets * drawn.bucket_seconds / step) }, (_, i) => (i + 0.5) * step);

function clock(seconds) {
  const s = Math.round(seconds), h = Math.floor(s / 3600), m = Math.floor((s % 3600) / 60);
  if (h) return `${h}:${String(m).padStart(2, "0")} h`;
  return s >= 120 || s % 60 === 0 && s > 0 ? `${m}${s % 60 ? ":" + String(s % 60).padStart(2, "0") : ""} min` : `${s} s`;
}

function timeTicks() {
  const end = drawn.num_buckets * drawn.bucket_seconds, most = narrow.matches ? 4 : 9;
  const nice = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];
  const step = nice.find((one) => end / one <= most) || 86400;
  const at = []; for (let t = 0; t <= end; t += step) at.push(t);
  return { tickvals: at, ticktext: at.map(clock), range: [0, end] };
}

const seconds = (s) => s >= 1 ? `${+s.toPrecision(3)} s` : s >= 1e-3 ? `${+(s * 1e3).toPrecision(3)} ms` : `${+(s * 1e6).toPrecision(3)} µs`;

function axis(more) {
  return { gridcolor: color("grid"), zerolinecolor: color("grid"), linecolor: color("line"), tickfont: { color: color("soft"), size: 11 },
    title: { font: { color: color("soft"), size: 12 } }, fixedrange: narrow.matches, automargin: true, ...more };
}

function layout(more) {
  return { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: getComputedStyle(document.body).fontFamily, color: color("ink"), size: 12 },
    margin: { l: 8, r: 12, t: 10, b: 8 }, hovermode: "x unified", hoverlabel: { bgcolor: color("sheet"), bordercolor: color("line"), font: { color: color("ink") } },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 11.5 } }, ...more };
}

function draw(id, traces, more) {
  const place = document.getElementById(id);
  if (place) Plotly.react(place, traces, layout(more), { displayModeBar: false, responsive: true });
}

function line(name, y, stroke, more) {
  return { type: "scatter", mode: "lines", name, x: times(), y, line: { color: stroke, width: 1.6, ...(more && more.line) }, connectgaps: false, ...more,
    ...(more && more.line ? { line: { color: stroke, width: 1.6, ...more.line } } : {}) };
}

function shading() {
  const shapes = [];
  if (drawn.window[0] > 0) shapes.push({ type: "rect", xref: "x", yref: "paper", x0: 0, x1: drawn.window[0], y0: 0, y1: 1, fillcolor: color("warm-up"), opacity: 0.13, line: { width: 0 }, layer: "below" });
  for (const fault of drawn.faults) {
    if (fault.at === null) continue;
    if (fault.lasts) shapes.push({ type: "rect", xref: "x", yref: "paper", x0: fault.at, x1: fault.at + fault.lasts, y0: 0, y1: 1, fillcolor: color("shade"), opacity: 0.14, line: { width: 0 }, layer: "below" });
    shapes.push({ type: "line", xref: "x", yref: "paper", x0: fault.at, x1: fault.at, y0: 0, y1: 1, line: { color: fault.lasts ? color("shade") : color("soft"), width: 1, dash: "dot" }, opacity: 0.7, layer: "below" });
  }
  return shapes;
}

function faultLabels() {
  const lasting = drawn.faults.filter((fault) => fault.lasts);
  if (lasting.length > 6 || narrow.matches) return [];
  return lasting.map((fault) => ({ x: fault.at, xref: "x", y: 1, yref: "paper", yanchor: "bottom", yshift: 20, xanchor: "left", showarrow: false,
    text: `${fault.kind.replaceAll("_", " ")}: ${fault.target}`, font: { size: 11, color: color("shade") } }));
}

function drawTimeline() {
  const t = drawn.timeline, [blue, orange, green, purple, sky] = series(), red = color("red");
  const thin = { line: { width: 1.1 } };
  const rows = [
    { title: "requests/s", traces: [line("offered", t.offered, color("soft"), { ...thin, line: { dash: "dot" } }), line("completed", t.completed, blue), line("not succeeded", t.lost, red), line("sent again", t.resends || [], purple)], keep: (y) => !["not succeeded", "sent again"].includes(y.name) || y.y.some((v) => v) },
    { title: "TTFT", traces: [line("TTFT p95", t.ttft_p95, orange), line("TTFT p50", t.ttft_p50, sky)], axis: { type: "log", tickformat: "", } , isSeconds: true },
    { title: "requests", traces: [line("in flight", t.in_flight, color("soft"), { line: { dash: "dot" } }), line("running", t.running, blue), line("replica queues", t.queue_depth, orange), line("router queue", t.router_queue, purple)], keep: (y) => y.name !== "router queue" || t.router_queue.some((v) => v), axis: { rangemode: "tozero" } },
    { title: "tokens/s", traces: [line("output tokens/s", t.tokens, green)], axis: { rangemode: "tozero" } },
    { title: "KV usage", traces: [line("fullest replica", t.kv_max, orange), line("mean", t.kv_mean, blue)], axis: { rangemode: "tozero", tickformat: ".0%" } },
    { title: "replicas", traces: Object.entries(t.replicas).map(([name, y], i) => line(`replicas of ${name}`, y, series()[i % 6], { line: { shape: "hv" } })), axis: { rangemode: "tozero", tickformat: "d" } },
  ];
  const shown = rows.map((row) => ({ ...row, traces: row.traces.filter((one) => one.y.some((v) => v !== null) && (!row.keep || row.keep(one))) })).filter((row) => row.traces.length);
  const legends = {};
  const gap = narrow.matches ? 0.062 : 0.05, height = (1 - gap * (shown.length - 1)) / shown.length, traces = [], axes = {};
  shown.forEach((row, i) => {
    const name = i ? String(i + 1) : "", top = 1 - i * (height + gap), domain = [Math.max(0, top - height), top];
    const extra = { ...(row.axis || {}) };
    if (row.isSeconds) Object.assign(extra, secondTicks(row.traces.flatMap((one) => one.y)));
    axes[`yaxis${name}`] = axis({ domain, anchor: "x", title: { text: row.title, font: { color: color("soft"), size: 12 } }, nticks: 5, ...extra });
    legends[`legend${name}`] = { orientation: "h", x: 0, xanchor: "left", y: top, yanchor: "bottom", font: { size: 11.5 }, bgcolor: "rgba(0,0,0,0)", tracegroupgap: 0 };
    row.traces.forEach((one) => traces.push({ ...one, yaxis: `y${name}`, xaxis: "x", legend: `legend${name}`, showlegend: true }));
  });
  const last = shown.length > 1 ? `y${shown.length}` : "y";
  draw("timeline-chart", traces, { xaxis: axis({ ...timeTicks(), anchor: last, showspikes: false }), ...axes, shapes: shading(), annotations: faultLabels(),
    margin: { l: 8, r: 12, t: 48, b: 8 }, hovermode: "x", hoverdistance: 20, ...legends });
}

function secondTicks(values) {
  const known = values.filter((v) => v !== null && v > 0);
  if (!known.length) return {};
  const low = Math.min(...known), high = Math.max(...known), at = [];
  const steps = high / low > 300 ? [1] : high / low > 5 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 7];
  for (let e = Math.floor(Math.log10(low)) - 1; e <= Math.log10(high) + 1; e++) for (const m of steps) at.push(m * 10 ** e);
  return { type: "log", tickvals: at, ticktext: at.map(seconds), range: [Math.log10(low * 0.85), Math.log10(high * 1.2)] };
}

function drawAttainment() {
  const many = drawn.attainment.length > 1;
  const target = (one, i) => one.target === null ? [] : [{ type: "line", xref: "paper", x0: 0, x1: 1, yref: "y", y0: one.target, y1: one.target, line: { color: many ? series()[i % 6] : color("red"), dash: "dash", width: 1.2 } }];
  const targets = drawn.attainment.flatMap(target);
  const lowest = Math.min(1, ...drawn.attainment.flatMap((one) => [...one.over_time, ...one.against_rate.map((p) => p[1]), one.target]).filter((v) => v !== null));
  const range = [Math.max(0, lowest - (1 - lowest) * 0.15 - 0.01), 1.012];
  const y = () => axis({ tickformat: lowest > 0.97 ? ".1%" : ".0%", range });
  const over = drawn.attainment.map((one, i) => line(one.name, one.over_time, series()[i % 6], { x: times(drawn.attainment_seconds) }));
  const rate = drawn.attainment.map((one, i) => ({ type: "scatter", mode: "lines+markers", name: one.name, x: one.against_rate.map((p) => p[0]), y: one.against_rate.map((p) => p[1]), line: { color: series()[i % 6], width: 1 }, marker: { color: series()[i % 6], size: 7 } }));
  draw("attainment-time", over, { xaxis: axis(timeTicks()), yaxis: y(), shapes: [...shading(), ...targets], showlegend: many });
  draw("attainment-rate", rate, { xaxis: axis({ title: { text: "offered requests/s", font: { color: color("soft"), size: 12 } }, rangemode: "tozero" }), yaxis: y(), shapes: targets, showlegend: false, hovermode: "closest" });
}

function drawLatency() {
  for (const [name, curves] of Object.entries(drawn.latency)) {
    const traces = [], shapes = [], annotations = [];
    curves.forEach((one, i) => {
      const stroke = series()[i % 6];
      traces.push({ type: "scatter", mode: "lines", name: one.name, x: one.x, y: one.y, line: { color: stroke, width: 2 }, hovertemplate: "%{y:.1%} within %{customdata}", customdata: one.x.map(seconds) });
      const marks = [0.5, 0.95, 0.99].map((q) => one.y.findIndex((y) => y >= q)).filter((at) => at >= 0);
      traces.push({ type: "scatter", mode: "markers", showlegend: false, hoverinfo: "skip", x: marks.map((at) => one.x[at]), y: marks.map((at) => one.y[at]), marker: { color: color("sheet"), size: 7, line: { color: stroke, width: 2 } } });
      if (one.limit !== null) {
        const dash = curves.length > 1 ? stroke : color("red");
        shapes.push({ type: "line", xref: "x", yref: "paper", x0: one.limit, x1: one.limit, y0: 0, y1: 1, line: { color: dash, width: 1.4, dash: "dash" } });
        annotations.push({ x: Math.log10(one.limit), xref: "x", y: 0.03 + 0.09 * i, yref: "paper", yanchor: "bottom", xanchor: "right", showarrow: false, text: `SLO ${seconds(one.limit)} `, font: { size: 11, color: dash } });
      }
    });
    const x = curves.flatMap((one) => [...one.x, one.limit]);
    draw(`latency-${name}`, traces, { xaxis: axis(tidy(secondTicks(x))), yaxis: axis({ range: [0, 1.02], tickformat: ".0%" }), shapes, annotations, showlegend: curves.length > 1, hovermode: "closest",
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 11.5 } } });
  }
}

function tidy(ticks) {
  // a chart a third of the page wide has room for few labels
  if (!ticks.tickvals) return ticks;
  const inside = ticks.tickvals.filter((v) => Math.log10(v) >= ticks.range[0] && Math.log10(v) <= ticks.range[1]);
  const kept = inside.length > 7 ? ticks.tickvals.filter((v) => Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-9) : ticks.tickvals;
  return { ...ticks, tickvals: kept, ticktext: kept.map(seconds) };
}

function drawHeat() {
  const measures = Object.keys(drawn.heat.measures);
  if (!measures.length) return;
  heatMeasure = heatMeasure || (measures.includes("running") ? "running" : measures[0]);
  const isShare = heatMeasure === "kv_usage", z = drawn.heat.measures[heatMeasure], top = Math.max(0, ...z.flat().filter((v) => v !== null));
  const place = document.getElementById("heat"), rows = drawn.heat.replicas.length;
  place.style.height = `${Math.max(170, Math.min(900, 90 + rows * 22))}px`;
  draw("heat", [{ type: "heatmap", x: times(), y: drawn.heat.replicas, z, zmin: 0, zmax: top || 1, xgap: 0, ygap: 2, colorscale: dark.matches ? "Cividis" : "Cividis", reversescale: !dark.matches,
    colorbar: { thickness: 10, outlinewidth: 0, tickfont: { color: color("soft"), size: 11 }, tickformat: isShare ? ".0%" : "" }, hoverongaps: false,
    hovertemplate: `%{y}: %{z${isShare ? ":.0%" : ":.3g"}}<extra></extra>` }],
    { xaxis: axis(timeTicks()), yaxis: axis({ autorange: "reversed", type: "category", showgrid: false }), shapes: [], hovermode: "closest" });
  document.querySelectorAll(".choices button").forEach((one) => one.setAttribute("aria-pressed", String(one.dataset.measure === heatMeasure)));
}

function drawErrors() {
  if (!drawn.errors) return;
  const names = { ttft: "TTFT", tpot: "TPOT", e2e: "E2E" };
  const traces = Object.entries(drawn.errors).map(([name, one], i) => ({ type: "scatter", mode: "lines+markers", name: names[name] || name, x: one.q, y: one.error, line: { color: series()[i], width: 2 }, marker: { size: 5 } }));
  const isWide = Object.values(drawn.errors).some((one) => one.error.some((e) => Math.abs(e) > 0.05));
  const band = { type: "rect", xref: "paper", x0: 0, x1: 1, yref: "y", y0: isWide ? -0.1 : -0.02, y1: isWide ? 0.1 : 0.02, fillcolor: color("green"), opacity: 0.1, line: { width: 0 }, layer: "below" };
  draw("errors", traces, { xaxis: axis({ tickformat: ".0%", title: { text: "quantile", font: { color: color("soft"), size: 12 } } }), yaxis: axis({ tickformat: "+.0%" }), shapes: [band] });
}

function drawFrontier() {
  if (!drawn.frontier || !drawn.frontier.length) return;
  const options = [...new Set(drawn.frontier.map((one) => one.option))], stroke = (i) => series()[i % 6], dash = (i) => ["solid", "dot", "dash"][Math.floor(i / 6) % 3];
  const of = (option) => drawn.frontier.filter((one) => one.option === option);
  const fade = (one) => one.best || one.meets ? 1 : 0.55;
  const marker = (points, i) => ({ size: points.map((one) => one.best ? 17 : 9), opacity: points.map(fade), symbol: points.map((one) => one.best ? "star" : one.meets ? "circle" : "x-thin-open"), color: stroke(i), line: { width: points.map((one) => one.meets ? 0 : 2), color: stroke(i) } });
  const text = (points) => points.map((one) => `${one.replicas} × ${one.option}`);
  const unit = drawn.priced ? "$ an hour" : "GPUs", asked = Math.max(...Object.values(drawn.targets));
  const cost = options.map((option, i) => { const p = of(option); return { type: "scatter", mode: "lines+markers", name: option, legendgroup: option, x: p.map((one) => one.price), y: p.map((one) => one.share), text: text(p), hovertemplate: `%{text}<br>%{x:.4g} ${unit} → %{y:.2%}<extra></extra>`, line: { color: stroke(i), width: 1.1, dash: dash(i) }, marker: marker(p, i) }; });
  const bounds = options.map((option, i) => ({ type: "scatter", mode: "markers", name: "a perfect system", legendgroup: option, showlegend: false, x: [of(option)[0].perfect], y: [asked], hovertemplate: `a perfect system on ${option}<br>%{x:.4g} ${unit}<extra></extra>`, marker: { size: 9, symbol: "diamond-open", color: stroke(i), line: { width: 1.6, color: stroke(i) } } }));
  const speed = options.map((option, i) => { const p = of(option); return { type: "scatter", mode: "markers", name: option, x: p.map((one) => one.per_user), y: p.map((one) => one.per_gpu), text: text(p), hovertemplate: "%{text}<br>%{x:.3g} tokens/s for a user<br>%{y:.4g} tokens/s per GPU<extra></extra>", marker: marker(p, i) }; });
  const shapes = [...new Set(Object.values(drawn.targets))].map((target) => ({ type: "line", xref: "paper", x0: 0, x1: 1, yref: "y", y0: target, y1: target, line: { color: color("soft"), width: 1.2, dash: "dot" } }));
  const title = (text) => ({ title: { text, font: { color: color("soft"), size: 12 } } });
  const legend = { orientation: "h", x: 0, y: -0.27, yanchor: "top", font: { size: 11.5 }, entrywidth: 24 + 6.6 * Math.max(...options.map((option) => option.length)) };
  draw("frontier-cost", [...cost, ...bounds], { xaxis: axis({ ...title(unit), rangemode: "tozero" }), yaxis: axis({ tickformat: ".0%", range: [-0.03, 1.06] }), shapes, hovermode: "closest", showlegend: options.length > 1, legend });
  draw("frontier-speed", [...speed, pareto()], { xaxis: axis({ ...title("tokens/s for a user"), rangemode: "tozero" }), yaxis: axis({ ...title("tokens/s per GPU"), rangemode: "tozero" }), hovermode: "closest", showlegend: false });
}

function pareto() {
  const met = drawn.frontier.filter((one) => one.meets), better = (a, b) => a.per_user >= b.per_user && a.per_gpu >= b.per_gpu && (a.per_user > b.per_user || a.per_gpu > b.per_gpu);
  const edge = met.filter((one) => !met.some((other) => better(other, one))).sort((a, b) => a.per_user - b.per_user);
  return { type: "scatter", mode: "lines", x: edge.map((one) => one.per_user), y: edge.map((one) => one.per_gpu), line: { color: color("soft"), width: 1, dash: "dot", shape: "hv" }, hoverinfo: "skip" };
}

function drawAll() {
  drawFrontier();
  if (drawn.timeline) { drawAttainment(); drawLatency(); drawTimeline(); drawHeat(); }
  drawErrors();
  document.getElementById("until-drawn").hidden = true;
  document.documentElement.dataset.drawn = "yes";
}

async function unpack() {
  const text = atob(document.getElementById("plotly").textContent), packed = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

document.querySelectorAll(".choices button").forEach((one) => one.addEventListener("click", () => { heatMeasure = one.dataset.measure; drawHeat(); }));
unpack().then(drawAll);
dark.addEventListener("change", drawAll);
narrow.addEventListener("change", drawAll);
