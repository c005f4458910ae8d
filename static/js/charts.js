// Plots on <canvas data-chart="precision-recall|histogram|traffic" data-source="json-script-id">.
//
// Around it: <section class="chart"> with .chart-tools (filled here: table, PNG, CSV), .chart-plot
// and .chart-table (the same numbers as a <table>; shown by its button, and without JavaScript).
// Needs the global Chart of vendor/chart.umd.min.js, loaded before this file.

import { announce } from "./live.js";

const drawn = new Map(); // canvas -> { chart, plot, at, json }

const two = (number) => number.toFixed(2);
const known = ([, precision, recall]) => precision !== null && recall !== null;

/* --- colours and type, from the tokens ------------------------------------------------------ */

function tokens() {
  const probe = document.createElement("span");
  probe.hidden = true;
  document.body.append(probe);
  const colour = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const names = ["surface", "ink", "muted", "edge", "accent", "bad", "bad-tint", "good", "good-tint"];
  const found = Object.fromEntries(names.map((name) => [name, colour(name)]));
  const style = getComputedStyle(document.body);
  found.mono = style.getPropertyValue("--mono");
  found.sans = style.fontFamily;
  probe.remove();
  return found;
}

/* --- the two kinds of plot: Chart.js configuration, points to read, rows to download -------- */

function precisionRecall(data, look) {
  const points = data.points.filter(known).sort((a, b) => a[2] - b[2]);
  const line = (rows) => rows.map(([threshold, y, x]) => ({ x, y, threshold }));
  const datasets = [
    {
      label: "this model",
      data: line(points),
      borderColor: look.accent,
      borderWidth: 2,
      pointStyle: "circle",
      legendStyle: "line",
      pointRadius: 0,
      pointHoverRadius: 5,
      pointHoverBackgroundColor: look.surface,
      pointHoverBorderWidth: 2,
      showLine: true,
    },
  ];
  if (data.previous) {
    datasets.push({
      label: "model before",
      data: line(data.previous.filter(known).sort((a, b) => a[2] - b[2])),
      borderColor: look.muted,
      borderWidth: 1.5,
      borderDash: [5, 4],
      pointStyle: "circle",
      legendStyle: "line",
      pointRadius: 0,
      pointHoverRadius: 0,
      showLine: true,
    });
  }
  if (data.live && known([0, data.live.precision, data.live.recall])) {
    const { threshold, precision: y, recall: x } = data.live;
    datasets.push({
      label: `live, τ ${two(threshold)}: P ${two(y)}, R ${two(x)}`,
      data: [{ x, y, threshold }],
      borderColor: look.accent,
      backgroundColor: look.surface,
      borderWidth: 2.5,
      pointStyle: "circle",
      pointRadius: 6,
      pointHoverRadius: 7,
      order: -1,
    });
  }
  const read = ({ threshold, y, x }) => `τ ${two(threshold)}: precision ${two(y)}, recall ${two(x)}`;
  const share = (title) => {
    const base = axis(look, title);
    return { ...base, type: "linear", min: 0, max: 1, ticks: { ...base.ticks, stepSize: 0.25, callback: two } };
  };
  return {
    config: {
      type: "scatter",
      data: { datasets },
      options: {
        interaction: { mode: "nearest", axis: "x", intersect: false },
        scales: { x: share("recall"), y: share("precision") },
        plugins: { tooltip: { callbacks: { title: () => "", label: (item) => read(item.raw) } } },
      },
    },
    count: points.length,
    read: (index) => read(datasets[0].data[index]),
    active: (index) => [{ datasetIndex: 0, index }],
    rows: [["threshold", "precision", "recall"], ...points],
  };
}

function histogram(data, look) {
  const bins = data.violates.length;
  const range = (index) => `${two(index / bins)} to ${two((index + 1) / bins)}`;
  const bars = (label, values, colour, fill, pointStyle) => ({
    label,
    data: values,
    backgroundColor: fill,
    borderColor: colour,
    borderWidth: 1,
    barPercentage: 1,
    categoryPercentage: 0.9,
    pointStyle,
  });
  const score = axis(look, "score");
  const examples = axis(look, "examples");
  return {
    config: {
      type: "bar",
      data: {
        labels: data.violates.map((_, index) => range(index)),
        datasets: [
          bars("violates", data.violates, look.bad, hatch(look.bad, look["bad-tint"]), "triangle"),
          bars("complies", data.complies, look.good, look["good-tint"], "circle"),
        ],
      },
      options: {
        interaction: { mode: "index", intersect: false },
        scales: {
          // the bars' own axis has no ticks: a score stands between bars, not under one
          x: { stacked: true, display: false },
          score: {
            ...score,
            type: "linear",
            axis: "x",
            offset: false,
            min: 0,
            max: 1,
            grid: { ...score.grid, drawOnChartArea: false, offset: false },
            ticks: { ...score.ticks, stepSize: 0.2, callback: two },
          },
          y: {
            ...examples,
            stacked: true,
            beginAtZero: true,
            ticks: { ...examples.ticks, precision: 0, maxTicksLimit: 6 },
          },
        },
        plugins: { tooltip: { callbacks: { title: ([item]) => `score ${item.label}` } } },
      },
      plugins: data.threshold === null ? [] : [thresholdLine(data.threshold, look)],
    },
    count: bins,
    read: (index) =>
      `score ${range(index)}: ${data.violates[index]} violate, ${data.complies[index]} comply`,
    active: (index) => [0, 1].map((datasetIndex) => ({ datasetIndex, index })),
    rows: [
      ["from", "to", "violates", "complies"],
      ...data.violates.map((count, index) => [index / bins, (index + 1) / bins, count, data.complies[index]]),
    ],
  };
}

function traffic(data, look) {
  const colours = {
    allow: [look.good, look["good-tint"]],
    block: [look.bad, hatch(look.bad, look["bad-tint"])],
  };
  const datasets = data.series.map(({ name, values }) => {
    const [colour, fill] = colours[name] ?? [look.accent, hatch(look.accent, look.surface)];
    return { label: name, data: values, backgroundColor: fill, borderColor: colour, borderWidth: 1, maxBarThickness: 48 };
  });
  const count = axis(look, "decisions");
  const said = (index) => data.series.map(({ name, values }) => `${values[index]} ${name}`).join(", ");
  return {
    config: {
      type: "bar",
      data: { labels: data.labels, datasets },
      options: {
        interaction: { mode: "index", intersect: false },
        scales: {
          x: { ...axis(look, "hour, UTC"), stacked: true },
          y: { ...count, stacked: true, beginAtZero: true, ticks: { ...count.ticks, precision: 0 } },
        },
        plugins: { tooltip: {} },
      },
    },
    count: data.labels.length,
    read: (index) => `${data.labels[index]}: ${said(index)}`,
    active: (index) => datasets.map((_, datasetIndex) => ({ datasetIndex, index })),
    rows: [
      ["hour", ...data.series.map(({ name }) => name)],
      ...data.labels.map((hour, index) => [hour, ...data.series.map(({ values }) => values[index])]),
    ],
  };
}

const KINDS = { "precision-recall": precisionRecall, histogram, traffic };

/* --- parts of plots ------------------------------------------------------------------------- */

function axis(look, title) {
  return {
    grid: { color: look.edge, tickLength: 4 },
    border: { color: look.edge },
    ticks: { color: look.muted, font: { family: look.mono, size: 11 } },
    title: { display: Boolean(title), text: title, color: look.muted, font: { family: look.sans, size: 12 } },
  };
}

function hatch(colour, ground) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const pen = tile.getContext("2d");
  pen.fillStyle = ground;
  pen.fillRect(0, 0, 6, 6);
  pen.strokeStyle = colour;
  pen.beginPath();
  pen.moveTo(-1, 7);
  pen.lineTo(7, -1);
  pen.stroke();
  return pen.createPattern(tile, "repeat");
}

const ground = {
  id: "ground",
  beforeDraw({ ctx, width, height }, _, { colour }) {
    ctx.save();
    ctx.fillStyle = colour;
    ctx.fillRect(0, 0, width, height);
    ctx.restore();
  },
};

function thresholdLine(threshold, look) {
  return {
    id: "threshold",
    afterDatasetsDraw({ ctx, chartArea: { top, bottom, right }, scales: { score } }) {
      const at = score.getPixelForValue(threshold);
      const label = `τ ${two(threshold)}`;
      ctx.save();
      ctx.strokeStyle = ctx.fillStyle = look.ink;
      ctx.setLineDash([3, 3]);
      ctx.lineWidth = 1.5;
      ctx.beginPath();
      ctx.moveTo(at, top);
      ctx.lineTo(at, bottom);
      ctx.stroke();
      ctx.font = `12px ${look.mono}`;
      ctx.textBaseline = "top";
      ctx.textAlign = at + 64 > right ? "right" : "left";
      ctx.fillText(label, at + (ctx.textAlign === "left" ? 6 : -6), top + 2);
      ctx.restore();
    },
  };
}

/* --- drawing -------------------------------------------------------------------------------- */

// a line in the legend for a line in the plot
function generateLabels(chart) {
  return globalThis.Chart.defaults.plugins.legend.labels.generateLabels(chart).map((label) => {
    const { legendStyle } = chart.data.datasets[label.datasetIndex];
    return legendStyle ? { ...label, pointStyle: legendStyle } : label;
  });
}

function options(config, look, datasets) {
  const { plugins, ...rest } = config.options;
  return {
    ...rest,
    animation: false,
    responsive: true,
    maintainAspectRatio: false,
    // crisp also as a downloaded picture
    devicePixelRatio: Math.max(2, devicePixelRatio),
    plugins: {
      ground: { colour: look.surface },
      legend: {
        display: datasets > 1,
        position: "top",
        align: "end",
        onClick: () => {},
        labels: {
          color: look.ink,
          usePointStyle: true,
          boxHeight: 8,
          font: { family: look.sans, size: 12 },
          generateLabels,
        },
      },
      tooltip: {
        backgroundColor: look.ink,
        titleColor: look.surface,
        bodyColor: look.surface,
        bodyFont: { family: look.mono, size: 12 },
        cornerRadius: 4,
        displayColors: false,
        ...plugins.tooltip,
      },
    },
  };
}

function draw(canvas) {
  const json = document.getElementById(canvas.dataset.source)?.textContent;
  const kind = KINDS[canvas.dataset.chart];
  if (!json || !kind || !globalThis.Chart) return;
  const before = drawn.get(canvas);
  before?.chart.destroy();
  const look = tokens();
  const plot = kind(JSON.parse(json), look);
  const chart = new globalThis.Chart(canvas, {
    type: plot.config.type,
    data: plot.config.data,
    options: options(plot.config, look, plot.config.data.datasets.length),
    plugins: [ground, ...(plot.config.plugins ?? [])],
  });
  drawn.set(canvas, { chart, plot, json, at: Math.min(before?.at ?? -1, plot.count - 1) });
  if (!before) furnish(canvas);
}

/** Draw what is new or has new data, and forget what left the page. */
function drawAll() {
  for (const [canvas, { chart }] of drawn) {
    if (canvas.isConnected) continue;
    chart.destroy();
    drawn.delete(canvas);
  }
  for (const canvas of document.querySelectorAll("canvas[data-chart]")) {
    const json = document.getElementById(canvas.dataset.source)?.textContent;
    if (drawn.get(canvas)?.json !== json) draw(canvas);
  }
}

const redraw = () => [...drawn.keys()].forEach(draw);

/* --- keyboard, table and downloads ---------------------------------------------------------- */

const STEPS = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 };

function show(canvas, index) {
  const state = drawn.get(canvas);
  state.at = Math.max(0, Math.min(index, state.plot.count - 1));
  const elements = state.plot.active(state.at);
  const [{ datasetIndex }] = elements;
  const { x, y } = state.chart.getDatasetMeta(datasetIndex).data[state.at];
  state.chart.setActiveElements(elements);
  state.chart.tooltip.setActiveElements(elements, { x, y });
  state.chart.update("none");
  announce(state.plot.read(state.at));
}

function steer(event) {
  const canvas = event.currentTarget;
  const { at, plot } = drawn.get(canvas);
  if (!plot.count || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Home") show(canvas, 0);
  else if (event.key === "End") show(canvas, plot.count - 1);
  else if (event.key in STEPS) show(canvas, at + STEPS[event.key]);
  else return;
  event.preventDefault();
}

function clear(event) {
  const { chart } = drawn.get(event.currentTarget);
  chart.setActiveElements([]);
  chart.tooltip.setActiveElements([], { x: 0, y: 0 });
  chart.update("none");
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function csv(canvas) {
  const lines = drawn.get(canvas).plot.rows.map((row) => row.join(","));
  return new Blob([`${lines.join("\n")}\n`], { type: "text/csv" });
}

function button(words, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "button button-quiet button-small";
  made.textContent = words;
  made.addEventListener("click", act);
  return made;
}

function furnish(canvas) {
  const name = canvas.dataset.name || canvas.dataset.chart;
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-roledescription", "plot");
  canvas.setAttribute("aria-label", `${canvas.dataset.label || name}. Arrow keys read the points.`);
  canvas.addEventListener("keydown", steer);
  canvas.addEventListener("blur", clear);

  const chart = canvas.closest(".chart");
  const tools = chart?.querySelector(".chart-tools");
  if (!tools) return;
  const table = chart.querySelector(".chart-table");
  if (table) {
    const toggle = button("Table", () => {
      const shown = table.toggleAttribute("data-shown");
      toggle.setAttribute("aria-expanded", String(shown));
    });
    toggle.setAttribute("aria-expanded", "false");
    tools.append(toggle);
  }
  tools.append(
    button("PNG", () => canvas.toBlob((blob) => save(blob, `${name}.png`))),
    button("CSV", () => save(csv(canvas), `${name}.csv`)),
  );
}

drawAll();

// the page behind the figures was fetched anew: take its numbers
document.addEventListener("parapet:followed", ({ detail: page }) => {
  for (const canvas of document.querySelectorAll("canvas[data-chart]")) {
    const data = document.getElementById(canvas.dataset.source);
    const now = page.getElementById(canvas.dataset.source);
    if (data && now) data.textContent = now.textContent;
  }
  drawAll();
});
document.addEventListener("parapet:theme", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
