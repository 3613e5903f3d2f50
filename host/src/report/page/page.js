// @ts-check
// The page of `vq-host report`: one chart of configurations, one table of cells, all from the JSON in the page.

/**
 * @typedef {{name: string, unit: string, better: "higher" | "lower" | "near" | "neither", ideal: number, meaning: string}} Metric
 * @typedef {{name: string, digest: string, metric: string, n: number, dim: number, queries: number, train_rows: number | null,
 *   notes: string[], variance: number | null, bound: [number, number][]}} Space
 * @typedef {{version: string, file: string, plugin_digest: string, needs_digest: string | null, sdk: string, abi: string}} Build
 * @typedef {{id: string, family: string, builds: Build[]}} Method
 * @typedef {{run_id: string, started_at: string, host_version: string, sweep_name: string, sweep_text: string, cpu_model: string | null,
 *   cpu_features: string[], cores: number, memory_bytes: number | null, os: string, environment: Record<string, string>}} Run
 * @typedef {{key: string[], run: (number | null)[], space: number[], method: number[], label: string[], params: Record<string, unknown>[],
 *   seed: string[], outcome: string[], error: (string | null)[], marks: string[], notices: string[][], configuration: number[]}} Cells
 * @typedef {{store: string, host_version: string, metrics: Metric[], spaces: Space[], methods: Method[], runs: Run[], cells: Cells,
 *   values: Record<string, (number | null)[]>, errors: Record<string, (number | null)[]>,
 *   query_errors: Record<string, (number | null)[]>, marks: Record<string, string>}} Data
 * @typedef {{id: number, cells: number[], space: number, method: number, label: string, marks: string, text: string}} Configuration
 * @typedef {{c: Configuration, x: number, y: number, px: number, py: number, front: boolean}} Point
 * @typedef {{x: [number, number], y: [number, number]}} Zoom In the units of the axes.
 * @typedef {{space: number, x: string, y: string, logX: boolean, logY: boolean, lines: string, bands: boolean, filter: string,
 *   off: Set<number>, pins: number[], zoom: Zoom | null, sort: string, columns: string[] | null, all: boolean, recall: string, target: number,
 *   theme: string}} State
 */

const SIZE = "bits_per_dim with model";
const SHAPES = 7;
const COLOURS = 8;
/** Lines of more methods than this are drawn thin. */
const MANY = 12;
const ROWS = 30;
const PINS = 8;

/** @type {Data} */
const data = JSON.parse(element("data").textContent ?? "");
const { cells, metrics, methods, spaces } = data;
/** @type {Map<string, Metric>} */
const known = new Map(metrics.map((metric) => [metric.name, metric]));

/** @type {Configuration[]} */
const configurations = [];
cells.key.forEach((_, i) => {
  const id = cells.configuration[i];
  const found = configurations[id];
  if (found) {
    found.cells.push(i);
    for (const mark of cells.marks[i]) if (!found.marks.includes(mark)) found.marks += mark;
  } else {
    configurations[id] = { id, cells: [i], space: cells.space[i], method: cells.method[i], label: cells.label[i], marks: cells.marks[i], text: "" };
  }
});
/** What the filter looks at, for each cell. */
const cellTexts = cells.key.map((key, i) =>
  [data.runs[cells.run[i] ?? -1]?.sweep_name ?? "", data.runs[cells.run[i] ?? -1]?.run_id ?? "", spaces[cells.space[i]].name, methods[cells.method[i]].id, cells.label[i], cells.outcome[i], "seed=" + cells.seed[i], key, JSON.stringify(cells.params[i])].join(" ").toLowerCase());

// ---- numbers

/** @param {string} id @returns {HTMLElement} */
function element(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(id);
  return found;
}
/** @param {string} id */
const select = (id) => /** @type {HTMLSelectElement} */ (element(id));
/** @param {string} id */
const input = (id) => /** @type {HTMLInputElement} */ (element(id));

/** @param {string} text */
const escaped = (text) => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

/** @param {number} value @param {number} digits */
function significant(value, digits) {
  if (value === 0) return "0";
  const magnitude = Math.floor(Math.log10(Math.abs(value)));
  return magnitude >= -4 && magnitude < 7 ? value.toFixed(Math.max(0, digits - 1 - magnitude)) : value.toExponential(digits - 1);
}
/** @param {number} value */
function amount(value) {
  if (Number.isInteger(value) && Math.abs(value) < 10000) return String(value);
  let scaled = value;
  for (const unit of ["", " k", " M", " G", " T"]) {
    if (Math.abs(scaled) < 9.95) return scaled.toFixed(1) + unit;
    if (Math.abs(scaled) < 999.5) return scaled.toFixed(0) + unit;
    scaled /= 1000;
  }
  return value.toExponential(2);
}
/** A metric's value as the tables of vq-host write it. @param {string} name @param {number} value */
function written(name, value) {
  if (!Number.isFinite(value)) return "–";
  const unit = known.get(name)?.unit ?? "";
  if (unit === "s") return Math.abs(value) < 0.1 ? significant(value, 2) : value.toFixed(Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0);
  if (unit === "bits") return value.toFixed(2);
  if (unit === "bytes" || unit.endsWith("/s")) return amount(value);
  return /^(recall|rank_distortion)/.test(name) ? value.toFixed(4) : significant(value, 4);
}
/** How bad a value is: smaller is better; none where no direction is. @param {string} name @param {number} value */
function cost(name, value) {
  const metric = known.get(name);
  switch (metric?.better) {
    case "higher": return -value;
    case "lower": return value;
    case "near": return Math.abs(value - metric.ideal);
    default: return null;
  }
}
/** @type {Map<string, Float64Array>} */
const means = new Map();
/** The mean over seeds of each configuration, NaN where it was not measured. @param {string} name */
function meansOf(name) {
  let found = means.get(name);
  if (!found) {
    const values = data.values[name] ?? [];
    found = Float64Array.from(configurations, (c) => {
      const these = c.cells.map((i) => values[i]).filter((v) => v !== null && v !== undefined);
      return these.length ? these.reduce((a, b) => a + b, 0) / these.length : NaN;
    });
    means.set(name, found);
  }
  return found;
}
/** Squared standard errors of a mean: over queries or rows, and over seeds. @param {string} name @param {Configuration} c */
function squaredErrors(name, c) {
  const values = c.cells.map((i) => data.values[name]?.[i]).filter((v) => v !== null && v !== undefined);
  const errors = c.cells.map((i) => data.errors[name]?.[i]).filter((v) => v !== null && v !== undefined);
  const byQuery = data.query_errors[name]?.[c.id];
  const queries = byQuery ?? (errors.length ? Math.sqrt(errors.reduce((sum, e) => sum + e * e, 0)) / errors.length : null);
  const n = values.length;
  const mean = values.reduce((a, b) => a + b, 0) / n;
  const seeds = n > 1 ? values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / (n - 1) / n : null;
  return { queries: queries === null ? null : queries * queries, seeds, n };
}
/** Half of the 95 % interval, where anything is known of it. @param {string} name @param {Configuration} c */
function half(name, c) {
  const { queries, seeds } = squaredErrors(name, c);
  const h = queries === null && seeds === null ? null : 1.96 * Math.sqrt((queries ?? 0) + (seeds ?? 0));
  // What is left of equal numbers when they are added up is no interval.
  return h !== null && h <= 1e-12 * Math.abs(meansOf(name)[c.id]) ? null : h;
}
/** The one-sided lower 95 % limit of a recall, as `vq-host recommend` has it: with one more query that finds nothing,
 * and Student's t. @param {string} name @param {Configuration} c */
function lowerLimit(name, c) {
  const mean = meansOf(name)[c.id];
  const { queries: squared, seeds, n } = squaredErrors(name, c);
  const count = spaces[c.space].queries;
  if (!Number.isFinite(mean) || squared === null || count < 2) return null;
  const all = count + 1;
  const ofQueries = ((count - 1) * squared * count + (mean * mean * count) / all) / count / all;
  const ofSeeds = seeds ?? 0;
  const both = ofQueries + ofSeeds;
  if (both === 0) return mean;
  const freedom = Math.max(1, Math.floor((both * both) / ((ofQueries * ofQueries) / count + (ofSeeds * ofSeeds) / Math.max(1, n - 1))));
  const table = [6.314, 2.92, 2.353, 2.132, 2.015, 1.943, 1.895, 1.86, 1.833, 1.812, 1.796, 1.782, 1.771, 1.761, 1.753, 1.746, 1.74, 1.734, 1.729, 1.725, 1.721, 1.717, 1.714, 1.711, 1.708, 1.706, 1.703, 1.701, 1.699, 1.697];
  return (mean * count) / all - (table[freedom - 1] ?? 1.645 + 1.524 / freedom) * Math.sqrt(both);
}
/** @param {Configuration} c */
const mayLead = (c) => !/[?~]/.test(c.marks);
/** @param {Configuration} c */
const nameOf = (c) => `${methods[c.method].id} ${c.label}`.trim();
/** @param {Configuration} c */
const isOk = (c) => c.cells.some((i) => cells.outcome[i] === "ok");
/** @param {string} name */
const axisName = (name) => {
  const metric = known.get(name);
  const better = { higher: "higher is better", lower: "lower is better", near: `best at ${metric?.ideal}`, neither: "" }[metric?.better ?? "neither"];
  return name + (metric?.unit ? ` (${metric.unit})` : "") + (better ? `, ${better}` : "");
};

// ---- state, and the address

const measured = metrics.filter((metric) => data.values[metric.name]?.some((v) => v !== null)).map((metric) => metric.name);
/** @param {string[]} names */
const firstMeasured = (...names) => names.find((name) => measured.includes(name)) ?? measured[0] ?? "";
const recalls = measured.filter((name) => /^recall@\d+/.test(name));
const headline = firstMeasured("recall@10", ...recalls.filter((name) => /^recall@\d+$/.test(name)).reverse(), "relative_error");
/** Whether a metric is easier to read on a log scale: no share, all values above 0, and the largest many times the least.
 * @param {string} name @param {number} space @param {number} times */
function wide(name, space, times) {
  const metric = known.get(name);
  if (!metric || (metric.unit === "" && metric.better === "higher")) return false;
  let [least, most] = [Infinity, 0];
  for (const c of configurations) {
    const v = c.space === space ? meansOf(name)[c.id] : NaN;
    if (v < 0) return false;
    if (v > 0) { least = Math.min(least, v); most = Math.max(most, v); }
  }
  return most > times * least;
}
/** The scales that suit the metrics of `state`. */
function usualScales() {
  state.logX = wide(state.x, state.space, 4);
  state.logY = wide(state.y, state.space, 30);
}
/** @returns {State} */
const initial = () => ({
  space: Math.max(0, spaces.findIndex((_, s) => configurations.some((c) => c.space === s && isOk(c)))),
  x: firstMeasured("bits_per_dim"), y: headline, logX: false, logY: false, lines: "front", bands: false, filter: "", off: new Set(), pins: [], zoom: null, sort: "",
  columns: null, all: false, recall: recalls.includes(headline) ? headline : recalls[0] ?? "", target: 0.9, theme: "auto",
});
let state = initial();
/** @param {number} s */
const spaceName = (s) => {
  const { name, metric, digest } = spaces[s];
  const same = spaces.filter((other) => other.name === name);
  if (same.length === 1) return name;
  return same.filter((other) => other.metric === metric).length === 1 ? `${name} ${metric}` : `${name} ${metric} ${digest.slice(0, 8)}`;
};

function readAddress() {
  const from = new URLSearchParams(location.hash.slice(1));
  state = initial();
  const text = (/** @type {string} */ name, /** @type {(value: string) => void} */ take) => {
    const value = from.get(name);
    if (value !== null) take(value);
  };
  const metric = (/** @type {string} */ value, /** @type {string} */ or) => (measured.includes(value) ? value : or);
  text("d", (v) => { const at = spaces.findIndex((_, s) => spaceName(s) === v); if (at >= 0) state.space = at; });
  text("x", (v) => { state.x = metric(v, state.x); });
  text("y", (v) => { state.y = metric(v, state.y); });
  usualScales();
  text("lx", (v) => { state.logX = v === "1"; });
  text("ly", (v) => { state.logY = v === "1"; });
  text("lines", (v) => { if (["front", "all", "none"].includes(v)) state.lines = v; });
  text("bands", (v) => { state.bands = v === "1"; });
  text("q", (v) => { state.filter = v; });
  text("off", (v) => { state.off = new Set(v.split(",").map((id) => methods.findIndex((m) => m.id === id)).filter((m) => m >= 0)); });
  text("pin", (v) => {
    const starts = v.split(",").filter(Boolean);
    state.pins = starts.map((start) => configurations.findIndex((c) => c.cells.some((i) => cells.key[i].startsWith(start)))).filter((c) => c >= 0).slice(0, PINS);
  });
  text("zoom", (v) => {
    const [x0, x1, y0, y1, ...rest] = v.split(",").map(Number);
    if (x0 < x1 && y0 < y1 && !rest.length) state.zoom = { x: [x0, x1], y: [y0, y1] };
  });
  text("sort", (v) => { state.sort = v; });
  text("cols", (v) => { state.columns = v.split(",").filter((name) => measured.includes(name)); });
  text("all", (v) => { state.all = v === "1"; });
  text("recall", (v) => { if (recalls.includes(v)) state.recall = v; });
  text("target", (v) => { const t = Number(v); if (t >= 0 && t <= 1) state.target = t; });
  text("theme", (v) => { if (["light", "dark", "auto"].includes(v)) state.theme = v; });
}
function writeAddress() {
  const usual = initial();
  const to = new URLSearchParams();
  const set = (/** @type {string} */ name, /** @type {string} */ value, /** @type {string} */ or) => { if (value !== or) to.set(name, value); };
  set("d", spaceName(state.space), spaceName(usual.space));
  set("x", state.x, usual.x);
  set("y", state.y, usual.y);
  set("lx", String(Number(state.logX)), String(Number(wide(state.x, state.space, 4))));
  set("ly", String(Number(state.logY)), String(Number(wide(state.y, state.space, 30))));
  set("lines", state.lines, usual.lines);
  set("bands", String(Number(state.bands)), "0");
  set("q", state.filter, "");
  set("off", [...state.off].map((m) => methods[m].id).join(","), "");
  set("pin", state.pins.map((c) => cells.key[configurations[c].cells[0]].slice(0, 12)).join(","), "");
  if (state.zoom) to.set("zoom", [...state.zoom.x, ...state.zoom.y].map((v) => Number(v.toPrecision(5))).join(","));
  set("sort", state.sort, "");
  if (state.columns) to.set("cols", state.columns.join(","));
  set("all", String(Number(state.all)), "0");
  set("recall", state.recall, usual.recall);
  set("target", String(state.target), "0.9");
  set("theme", state.theme, "auto");
  const hash = to.toString();
  if (hash !== location.hash.slice(1)) history.replaceState(null, "", hash ? "#" + hash : location.pathname + location.search);
}

// ---- filter

/** @returns {(i: number) => boolean} */
function cellFilter() {
  const terms = state.filter.toLowerCase().split(/\s+/).filter(Boolean).map((term) => {
    const compared = /^(.+?)(>=|<=|>|<|=)(-?[\d.]+(?:e-?\d+)?)$/.exec(term);
    const values = compared && data.values[compared[1]];
    if (compared && values) {
      const [, , sign, text] = compared;
      const limit = Number(text);
      return (/** @type {number} */ i) => {
        const v = values[i];
        if (v === null || v === undefined) return false;
        return sign === ">" ? v > limit : sign === "<" ? v < limit : sign === ">=" ? v >= limit : sign === "<=" ? v <= limit : v === limit;
      };
    }
    const without = term.length > 1 && term.startsWith("-");
    const word = without ? term.slice(1) : term;
    return (/** @type {number} */ i) => cellTexts[i].includes(word) !== without;
  });
  return (i) => !state.off.has(cells.method[i]) && terms.every((term) => term(i));
}

// ---- chart

/** @type {Point[]} */
let points = [];
let walked = -1;
/** From pixels of the chart to the units of its axes. @type {{x: (px: number) => number, y: (py: number) => number}} */
let unscaled = { x: Number, y: Number };

/** Corners of the shapes, in units of their size; the circle has none. */
const CORNERS = [
  [], [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]], [[0, -1.2], [1.1, 0.8], [-1.1, 0.8]], [[0, -1.3], [1.1, 0], [0, 1.3], [-1.1, 0]],
  [[0, 1.2], [1.1, -0.8], [-1.1, -0.8]],
  [[-0.4, -1.2], [0.4, -1.2], [0.4, -0.4], [1.2, -0.4], [1.2, 0.4], [0.4, 0.4], [0.4, 1.2], [-0.4, 1.2], [-0.4, 0.4], [-1.2, 0.4], [-1.2, -0.4], [-0.4, -0.4]],
  [[-0.5, -1.1], [0.5, -1.1], [1.15, 0], [0.5, 1.1], [-0.5, 1.1], [-1.15, 0]],
];
/** @param {number} v */
const tenth = (v) => Math.round(v * 10) / 10;
/** @type {Map<string, string>} */
const around = new Map();
/** A shape around the place where the path is. @param {number} shape @param {number} r */
function shapeAround(shape, r) {
  const name = `${shape} ${r}`;
  let found = around.get(name);
  if (!found) {
    const corners = CORNERS[shape].map(([x, y]) => [tenth(x * r), tenth(y * r)]);
    found = corners.length
      ? `m${corners[0].join(" ")}l` + corners.slice(1).map(([x, y], i) => `${tenth(x - corners[i][0])} ${tenth(y - corners[i][1])}`).join(" ") + "z"
      : `m${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`;
    around.set(name, found);
  }
  return found;
}
/** @param {number} shape @param {number} x @param {number} y @param {number} r */
const shapePath = (shape, x, y, r) => `M${tenth(x)} ${tenth(y)}${shapeAround(shape, r)}`;
/** Dashes tell lines apart where colours cannot. @param {number} m */
const dash = (m) => ["", "7 3", "2 3", "9 3 2 3"][Math.floor(m / COLOURS + m) % 4];
/** The shapes as characters: a table of small drawings takes three times as long. */
const GLYPHS = ["●", "■", "▲", "◆", "▼", "✚", "⬢"];
/** @param {number} m @param {number} [size] */
const symbol = (m, size = 14) => `<svg width="${size}" height="${size}" viewBox="0 0 14 14" aria-hidden="true"><path class="k${m % COLOURS}" d="${shapePath(m % SHAPES, 7, 7, 4.6)}"/></svg>`;

/** Places from `low` to `high` where a scale is labelled. @param {number} low @param {number} high @param {boolean} log @param {number} room */
function ticks(low, high, log, room) {
  /** @type {number[]} */
  const found = [];
  if (log) {
    const decades = Math.log10(high / low);
    const steps = decades > room ? [1] : decades > room / 3 ? [1, 3] : decades > room / 8 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9];
    const every = Math.max(1, Math.ceil(decades / room));
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e += 1) {
      if (((e % every) + every) % every) continue;
      for (const step of steps) if (step * 10 ** e >= low * 0.9999 && step * 10 ** e <= high * 1.0001) found.push(step * 10 ** e);
    }
    if (found.length >= 2) return found;
    found.length = 0;
  }
  const raw = (high - low) / room;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5, 10].find((s) => s * power >= raw) ?? 10);
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) found.push(i * step);
  return found;
}
/** @param {number} value @param {number} step */
function tickText(value, step) {
  const size = Math.abs(value);
  if (value !== 0 && (size >= 1e5 || size < 1e-3)) {
    const units = /** @type {[number, string][]} */ ([[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]);
    const unit = units.find(([u]) => size >= u);
    if (unit) return `${Number((value / unit[0]).toPrecision(3))} ${unit[1]}`;
    const [digits, power] = value.toExponential(1).replace(".0", "").split("e");
    return (digits === "1" ? "" : digits.replace("-", "−") + "·") + "10" + [...String(Number(power))].map((c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]).join("");
  }
  const decimals = step > 0 ? Math.max(0, Math.ceil(-Math.log10(step) - 1e-9)) : 3;
  return Number(value.toFixed(Math.min(6, decimals + 1))).toString().replace("-", "−");
}
/** @param {number[]} values @param {boolean} log */
function domain(values, log) {
  let low = Infinity;
  let high = -Infinity;
  for (const v of values) { if (v < low) low = v; if (v > high) high = v; }
  if (!Number.isFinite(low)) return { low: log ? 1 : 0, high: log ? 10 : 1 };
  if (log) {
    const pad = low === high ? Math.log(1.6) : Math.log(high / low) * 0.05;
    return { low: low / Math.exp(pad), high: high * Math.exp(pad) };
  }
  const pad = low === high ? Math.abs(low || 1) * 0.3 : (high - low) * 0.05;
  // A share ends at 1.
  return { low: low - pad, high: high <= 1 && low >= 0 ? Math.min(high + pad, 1.03) : high + pad };
}
/** Marks the points that no other is as good as in both. @param {Point[]} these @returns {Point[]} */
function front(these) {
  const ranked = these.map((p) => ({ p, a: cost(state.x, p.x), b: cost(state.y, p.y) })).filter((r) => r.a !== null && r.b !== null);
  ranked.sort((r, s) => Number(r.a) - Number(s.a) || Number(r.b) - Number(s.b));
  /** @type {Point[]} */
  const best = [];
  let least = Infinity;
  for (const { p, b } of ranked) if (Number(b) < least) { least = Number(b); best.push(p); }
  return best;
}
const directed = () => [state.x, state.y].every((name) => (known.get(name)?.better ?? "neither") !== "neither");

/** The chart as the text of an SVG. @param {number} width @param {boolean} withLegend */
function chartSvg(width, withLegend) {
  const wanted = cellFilter();
  const xs = meansOf(state.x);
  const ys = meansOf(state.y);
  let hidden = 0;
  let unmeasured = 0;
  points = [];
  for (const c of configurations) {
    if (c.space !== state.space || !c.cells.some(wanted) || !isOk(c)) continue;
    const [x, y] = [xs[c.id], ys[c.id]];
    if (!Number.isFinite(x) || !Number.isFinite(y)) unmeasured += 1;
    else if ((state.logX && x <= 0) || (state.logY && y <= 0)) hidden += 1;
    else points.push({ c, x, y, px: 0, py: 0, front: false });
  }
  const bands = state.bands ? points.map((p) => ({ x: half(state.x, p.c), y: half(state.y, p.c) })) : [];
  const height = Math.round(Math.min(560, Math.max(300, width * 0.56)));
  const zoom = state.zoom && (!state.logX || state.zoom.x[0] > 0) && (!state.logY || state.zoom.y[0] > 0) ? state.zoom : null;
  const dx = zoom ? { low: zoom.x[0], high: zoom.x[1] } : domain(points.map((p) => p.x), state.logX);
  const dy = zoom ? { low: zoom.y[0], high: zoom.y[1] } : domain(points.flatMap((p, i) => {
    const h = bands[i]?.y;
    return h && (!state.logY || p.y > h) ? [p.y - h, p.y + h] : [p.y];
  }), state.logY);
  const yTicks = ticks(dy.low, dy.high, state.logY, Math.max(3, height / 55));
  const yStep = yTicks.length > 1 ? Math.abs(yTicks[1] - yTicks[0]) : 0;
  const yTexts = yTicks.map((v) => tickText(v, yStep));
  const left = 22 + Math.max(...yTexts.map((t) => t.length), 3) * 7.2;
  const [right, top, bottom] = [14, 26, 46];
  const scale = (/** @type {number} */ v, /** @type {{low: number, high: number}} */ d, /** @type {boolean} */ log) =>
    log ? Math.log(v / d.low) / Math.log(d.high / d.low) : (v - d.low) / (d.high - d.low);
  const toX = (/** @type {number} */ v) => left + scale(v, dx, state.logX) * (width - left - right);
  const toY = (/** @type {number} */ v) => height - bottom - scale(v, dy, state.logY) * (height - top - bottom);
  const back = (/** @type {number} */ share, /** @type {{low: number, high: number}} */ d, /** @type {boolean} */ log) =>
    log ? d.low * (d.high / d.low) ** share : d.low + share * (d.high - d.low);
  unscaled = {
    x: (px) => back((px - left) / (width - left - right), dx, state.logX),
    y: (py) => back((height - bottom - py) / (height - top - bottom), dy, state.logY),
  };
  for (const p of points) { p.px = toX(p.x); p.py = toY(p.y); }

  let out = "";
  const xTicks = ticks(dx.low, dx.high, state.logX, Math.max(2, width / 85));
  const xStep = xTicks.length > 1 ? Math.abs(xTicks[1] - xTicks[0]) : 0;
  let edge = -Infinity;
  for (const v of xTicks) {
    const at = toX(v);
    const text = tickText(v, xStep);
    out += `<line class="grid" x1="${at.toFixed(1)}" x2="${at.toFixed(1)}" y1="${top}" y2="${height - bottom}"/>`;
    const wide = text.length * 3.6;
    if (at - wide > edge + 6 && at + wide < width) {
      out += `<text x="${at.toFixed(1)}" y="${height - bottom + 17}" text-anchor="middle">${escaped(text)}</text>`;
      edge = at + wide;
    }
  }
  yTicks.forEach((v, i) => {
    const at = toY(v).toFixed(1);
    out += `<line class="grid" x1="${left}" x2="${width - right}" y1="${at}" y2="${at}"/><text x="${left - 7}" y="${at}" dy="4" text-anchor="end">${escaped(yTexts[i])}</text>`;
  });
  out += `<path class="axis" fill="none" d="M${left} ${top}V${height - bottom}H${width - right}"/>`;
  const fitted = (/** @type {string} */ text) => escaped(text.length * 6.6 > width - 16 ? text.slice(0, Math.floor((width - 16) / 6.6) - 1) + "…" : text);
  out += `<text x="${width - right}" y="${height - 9}" text-anchor="end">${fitted(axisName(state.x) + (state.logX ? ", log" : ""))} →</text>`;
  out += `<text x="4" y="14">↑ ${fitted(axisName(state.y) + (state.logY ? ", log" : ""))}</text>`;
  out += `<clipPath id="inside"><rect x="${left}" y="${top - 6}" width="${width - left - right + 8}" height="${height - top - bottom + 12}"/></clipPath><g clip-path="url(#inside)">`;

  const bound = boundLine().filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y) && (!state.logX || x > 0) && (!state.logY || y > 0));
  if (bound.length > 1 && points.length) out += `<path class="bound" d="M${bound.map(([x, y]) => `${toX(x).toFixed(1)} ${toY(y).toFixed(1)}`).join("L")}"/>`;

  const [target, inX, inY] = [state.target, state.target > dx.low && state.target < dx.high, state.target > dy.low && state.target < dy.high];
  if (points.length && state.y === state.recall && inY) out += `<path class="target" d="M${left} ${toY(target).toFixed(1)}H${width - right}"/>`;
  if (points.length && state.x === state.recall && inX) out += `<path class="target" d="M${toX(target).toFixed(1)} ${top}V${height - bottom}"/>`;

  /** @type {Map<number, Point[]>} */
  const byMethod = new Map();
  for (const p of points) {
    const these = byMethod.get(p.c.method);
    if (these) these.push(p);
    else byMethod.set(p.c.method, [p]);
  }
  const fronts = directed();
  for (const [m, these] of byMethod) {
    const best = fronts ? front(these) : these;
    for (const p of best) p.front = true;
    const along = (state.lines === "all" || !fronts ? [...these] : best).sort((p, q) => p.x - q.x || p.y - q.y);
    if (state.lines !== "none" && along.length > 1) {
      out += `<path class="line k${m % COLOURS}" fill="none" stroke-dasharray="${dash(m)}" d="M${along.map((p) => `${p.px.toFixed(1)} ${p.py.toFixed(1)}`).join("L")}"/>`;
    }
  }
  if (fronts && byMethod.size > 1) {
    const best = front(points.filter((p) => mayLead(p.c)));
    if (best.length > 1) out += `<path class="best" d="M${best.map((p) => `${p.px.toFixed(1)} ${p.py.toFixed(1)}`).join("L")}"/>`;
  }
  points.forEach((p, i) => {
    const band = bands[i];
    if (!band) return;
    const colour = `class="band k${p.c.method % COLOURS}"`;
    if (band.y) out += `<path ${colour} d="M${p.px.toFixed(1)} ${toY(state.logY ? Math.max(p.y - band.y, dy.low) : p.y - band.y).toFixed(1)}V${toY(p.y + band.y).toFixed(1)}"/>`;
    if (band.x) out += `<path ${colour} d="M${toX(state.logX ? Math.max(p.x - band.x, dx.low) : p.x - band.x).toFixed(1)} ${p.py.toFixed(1)}H${toX(p.x + band.x).toFixed(1)}"/>`;
  });
  const radius = points.length > 600 ? 3.2 : 4.4;
  const paler = tenth(radius * 0.85);
  // One path for each method and look: 2,000 elements take longer than 200.
  /** @type {Map<string, string>} */
  const looks = new Map();
  for (const p of points) {
    const m = p.c.method;
    const look = `${p.front ? "" : "off-front "}${mayLead(p.c) ? "" : "doubtful "}k${m % COLOURS}" data-of="${m}`;
    looks.set(look, (looks.get(look) ?? "") + shapePath(m % SHAPES, p.px, p.py, p.front ? radius : paler));
  }
  for (const [look, d] of [...looks].sort((a, b) => Number(b[0].startsWith("off")) - Number(a[0].startsWith("off")))) out += `<path class="point ${look}" d="${d}"/>`;
  out += "</g>";
  const all = points.length;
  // What lies outside is neither found by the pointer nor walked to.
  if (zoom) points = points.filter((p) => p.x >= dx.low && p.x <= dx.high && p.y >= dy.low && p.y <= dy.high);
  for (const id of state.pins) {
    const p = points.find((q) => q.c.id === id);
    if (p) out += `<circle class="ring" cx="${p.px.toFixed(1)}" cy="${p.py.toFixed(1)}" r="8.5"/>`;
  }
  out += `<circle id="hover" class="ring" r="8" visibility="hidden"/>`;
  if (!points.length) out += `<text x="${width / 2}" y="${height / 2}" text-anchor="middle">${all ? "nothing here: the view is of a part without any" : "nothing to draw: no cell shown here has both numbers"}</text>`;
  let full = height;
  if (withLegend) {
    let [x, y] = [10, height + 14];
    for (const m of [...byMethod.keys()].sort((a, b) => a - b)) {
      const text = methods[m].id;
      const wide = 30 + text.length * 7.4;
      if (x + wide > width) { x = 10; y += 20; }
      out += `<path class="point k${m % COLOURS}" d="${shapePath(m % SHAPES, x + 6, y - 4, 4.6)}"/><text x="${x + 16}" y="${y}">${escaped(text)}</text>`;
      x += wide;
    }
    full = y + 26;
    out += `<text class="soft" x="10" y="${full - 6}">${fitted(`${spaceName(state.space)} · ${data.store} · vq-host ${data.host_version}`)}</text>`;
  }
  const notes = [`${points.length} ${points.length === 1 ? "configuration" : "configurations"}, means over their seeds`];
  if (fronts && state.lines === "front") notes.push("lines join what no other of its method is as good as in both; paler marks are the rest");
  if (fronts && byMethod.size > 1) notes.push("dashed: the best of all");
  if (bound.length > 1 && points.length) notes.push("dotted: the fewest bits for a Gaussian of this data's covariance");
  if (points.some((p) => !mayLead(p.c))) notes.push("hollow: unproven or of unknown size, never among the best");
  if (state.bands) notes.push("bars: 95 % intervals over queries and seeds, where they are known");
  if (points.length && [state.x, state.y].includes(state.recall)) notes.push(`fine line: ${state.recall} of ${state.target}`);
  if (zoom) notes.push(`a part: ${all - points.length} outside it`);
  if (hidden) notes.push(`${hidden} not shown: not above 0 on a log scale`);
  if (unmeasured) notes.push(`${unmeasured} not shown: not measured in both`);
  element("chart-notes").textContent = notes.join(" · ");
  element("whole").hidden = !zoom;
  return `<svg xmlns="http://www.w3.org/2000/svg"${byMethod.size > MANY ? ' class="many"' : ""} viewBox="0 0 ${width} ${full}" role="img" aria-label="${escaped(`${axisName(state.y)} against ${axisName(state.x)}, ${points.length} configurations`)}">${out}</svg>`;
}
/** @returns {[number, number][]} */
function boundLine() {
  const { bound, variance } = spaces[state.space];
  const to = /** @type {Record<string, (error: number) => number>} */ ({
    relative_error: (/** @type {number} */ error) => error,
    mse: (error) => error * (variance ?? NaN),
    sqnr_db: (error) => -10 * Math.log10(error),
  })[state.y];
  const from = /** @type {Record<string, (bits: number) => number>} */ ({ bits_per_dim: (bits) => bits, [SIZE]: (bits) => bits, ratio: (bits) => 32 / bits })[state.x];
  return bound.map(([bits, error]) => [from?.(bits) ?? NaN, to?.(error) ?? NaN]);
}

function drawChart() {
  const before = performance.now();
  const box = element("chart");
  const width = Math.max(300, Math.floor(box.clientWidth || 900));
  box.innerHTML = chartSvg(width, false);
  hideTip();
  walked = -1;
  element("chart-heading").textContent = measured.length === 0 ? `Nothing was measured on ${spaceName(state.space)}` : `${state.y} against ${state.x} on ${spaceName(state.space)}`;
  const { n, dim, queries, metric } = spaces[state.space];
  element("chart-about").textContent = `${n.toLocaleString("en")} vectors × ${dim} dimensions, ${queries.toLocaleString("en")} queries, ${metric}`;
  document.documentElement.dataset.shown = String(points.length);
  document.documentElement.dataset.drawMs = (performance.now() - before).toFixed(1);
}

// ---- tip and pins

/** @param {Configuration} c @returns {[string, string][]} */
function facts(c) {
  /** @type {[string, string][]} */
  const rows = Object.entries(cells.params[c.cells[0]]).map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value)]);
  rows.push([c.cells.length === 1 ? "seed" : "seeds", c.cells.map((i) => cells.seed[i]).join(", ")]);
  for (const name of new Set([state.x, state.y, SIZE, "relative_error", headline, "compress_vectors_per_s", "fit_s"])) {
    const value = meansOf(name)[c.id];
    if (!Number.isFinite(value)) continue;
    const h = half(name, c);
    rows.push([name, written(name, value) + (h ? ` ± ${written(name, h)}` : "")]);
  }
  for (const mark of c.marks) rows.push([mark, data.marks[mark] ?? ""]);
  rows.push(["key", cells.key[c.cells[0]].slice(0, 12) + (c.cells.length > 1 ? ` and ${c.cells.length - 1} more` : "")]);
  return rows;
}
/** @param {Point} p */
function showTip(p) {
  const tip = element("tip");
  tip.replaceChildren();
  const head = document.createElement("p");
  head.innerHTML = symbol(p.c.method);
  const strong = document.createElement("strong");
  strong.textContent = " " + nameOf(p.c);
  head.append(strong);
  tip.append(head);
  for (const [name, value] of facts(p.c)) {
    const line = document.createElement("p");
    line.textContent = `${name}: ${value}`;
    tip.append(line);
  }
  tip.hidden = false;
  const box = element("chart").getBoundingClientRect();
  const at = p.px * (box.width / chartWidth());
  const wide = tip.offsetWidth;
  tip.style.left = `${Math.max(0, Math.min(box.width - wide, at + 14 + wide > box.width ? at - wide - 14 : at + 14))}px`;
  tip.style.top = `${Math.max(0, Math.min(p.py, box.height - tip.offsetHeight))}px`;
  const ring = document.getElementById("hover");
  ring?.setAttribute("cx", String(p.px));
  ring?.setAttribute("cy", String(p.py));
  ring?.setAttribute("visibility", "visible");
}
function chartWidth() {
  return Number(element("chart").querySelector("svg")?.getAttribute("viewBox")?.split(" ")[2] ?? 1);
}
function hideTip() {
  element("tip").hidden = true;
  document.getElementById("hover")?.setAttribute("visibility", "hidden");
}
/** @param {PointerEvent | MouseEvent} event @returns {Point | null} */
function nearest(event) {
  const [x, y] = placeOf(event);
  let best = null;
  let least = 28 * 28;
  for (const p of points) {
    const d = (p.px - x) ** 2 + (p.py - y) ** 2;
    if (d < least) { least = d; best = p; }
  }
  return best;
}
/** @param {number} id */
function togglePin(id) {
  const at = state.pins.indexOf(id);
  if (at >= 0) state.pins.splice(at, 1);
  else state.pins = [...state.pins, id].slice(-PINS);
  draw({ chart: true, table: true, pins: true });
}
function drawPins() {
  const shown = state.pins.map((id) => configurations[id]);
  element("pins").hidden = shown.length === 0;
  if (!shown.length) return;
  const row = (/** @type {string} */ head, /** @type {(c: Configuration) => string} */ value, number = false) =>
    `<tr><th scope="row">${escaped(head)}</th>${shown.map((c) => `<td${number ? ' class="n"' : ""}>${value(c)}</td>`).join("")}</tr>`;
  let body = row("data set", (c) => escaped(spaceName(c.space)));
  body += row("parameters", (c) => escaped(Object.entries(cells.params[c.cells[0]]).map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`).join(" ")));
  body += row("seeds", (c) => escaped(c.cells.map((i) => cells.seed[i]).join(", ")));
  body += row("outcome", (c) => escaped([...new Set(c.cells.map((i) => cells.outcome[i]))].join(", ")));
  for (const name of measured) {
    if (!shown.some((c) => Number.isFinite(meansOf(name)[c.id]))) continue;
    body += row(name, (c) => {
      const h = half(name, c);
      return written(name, meansOf(name)[c.id]) + (h ? ` ± ${written(name, h)}` : "");
    }, true);
  }
  body += row("notices", (c) => escaped([...new Set(c.cells.flatMap((i) => cells.notices[i]))].join("; ")));
  body += row("plugin", (c) => {
    const builds = methods[c.method].builds;
    return escaped(builds.map((b) => `${b.file} ${b.version}`).join(", "));
  });
  body += row("keys", (c) => c.cells.map((i) => `<span class="key">${escaped(cells.key[i])}</span>`).join("<br>"));
  const heads = shown.map((c) => `<th scope="col">${symbol(c.method)} ${escaped(nameOf(c))} <button type="button" data-unpin="${c.id}" aria-label="unpin ${escaped(nameOf(c))}">×</button></th>`).join("");
  element("pin-table").innerHTML = `<thead><tr><td></td>${heads}</tr></thead><tbody>${body}</tbody>`;
}

// ---- legend

const families = new Map(/** @type {[string, number[]][]} */ ([]));
methods.forEach((method, m) => families.set(method.family, [...(families.get(method.family) ?? []), m]));
function drawLegend() {
  const here = new Set(configurations.filter((c) => c.space === state.space && isOk(c)).map((c) => c.method));
  let out = here.size > 2 ? '<button type="button" data-every="on">all</button><button type="button" data-every="off">none</button>' : "";
  for (const [family, all] of families) {
    const these = all.filter((m) => here.has(m));
    if (these.length > 1) out += `<button type="button" class="family" data-family="${escaped(family)}" aria-pressed="${these.some((m) => !state.off.has(m))}">${escaped(family)}: all ${these.length}</button>`;
    for (const m of these) out += `<button type="button" data-method="${m}" aria-pressed="${!state.off.has(m)}" title="double click, or with Shift: only this one">${symbol(m)}${escaped(methods[m].id)}</button>`;
  }
  const legend = element("legend");
  // As long as the methods are the same, only what is pressed changes.
  const buttons = [...legend.querySelectorAll("button")];
  const names = [...here].sort((a, b) => a - b).join(",");
  if (legend.dataset.of === names && buttons.length) {
    for (const button of buttons) {
      const { method, family, every } = button.dataset;
      if (every !== undefined) continue;
      const on = method !== undefined ? !state.off.has(Number(method)) : (families.get(family ?? "") ?? []).some((m) => here.has(m) && !state.off.has(m));
      button.setAttribute("aria-pressed", String(on));
    }
    return;
  }
  legend.dataset.of = names;
  legend.innerHTML = out;
}

// ---- table of cells

let rowsShown = ROWS;
const shares = new Set(metrics.filter((metric) => metric.unit === "" && metric.better === "higher").map((metric) => metric.name));
const usualColumns = () => [...new Set([state.x, state.y, SIZE, "relative_error", headline, "compress_vectors_per_s", "fit_s"])].filter((name) => measured.includes(name));
const columns = () => state.columns ?? usualColumns();
/** @param {string} text */
const natural = (text) => text.replace(/\d+/g, (digits) => digits.padStart(12, "0"));
/** @type {Record<string, (i: number) => string>} */
const texts = {
  "data set": (i) => spaceName(cells.space[i]),
  method: (i) => methods[cells.method[i]].id,
  configuration: (i) => cells.label[i],
  seed: (i) => cells.seed[i],
  outcome: (i) => cells.outcome[i],
};
function sortedCells() {
  const wanted = cellFilter();
  /** @type {number[]} */
  const rows = [];
  for (let i = 0; i < cells.key.length; i += 1) if ((state.all || cells.space[i] === state.space) && wanted(i)) rows.push(i);
  const name = state.sort.replace(/^-/, "") || "bits_per_dim";
  const down = state.sort.startsWith("-") ? -1 : 1;
  const text = texts[name];
  if (text) {
    const keys = new Map(rows.map((i) => [i, natural(text(i))]));
    rows.sort((a, b) => { const [p, q] = [keys.get(a) ?? "", keys.get(b) ?? ""]; return p < q ? -down : p > q ? down : a - b; });
  } else {
    const values = data.values[name] ?? [];
    rows.sort((a, b) => {
      const [p, q] = [values[a] ?? null, values[b] ?? null];
      if (p === null || q === null) return Number(p === null) - Number(q === null) || a - b;
      return (p - q) * down || a - b;
    });
  }
  return rows;
}
/** @param {string} name @param {boolean} number */
function heading(name, number) {
  const sorted = state.sort.replace(/^-/, "") === name;
  const direction = sorted ? (state.sort.startsWith("-") ? "descending" : "ascending") : "none";
  const arrow = { ascending: " ▲", descending: " ▼", none: "" }[direction];
  return `<th scope="col" aria-sort="${direction}"${number ? ' class="n"' : ""}><button type="button" data-sort="${escaped(name)}">${escaped(name)}${arrow}</button></th>`;
}
function drawTable() {
  const before = performance.now();
  const rows = sortedCells();
  const names = columns();
  const heads = ["data set", "method", "configuration", "seed", "outcome"].filter((name) => name !== "data set" || state.all);
  const shown = rows.slice(0, rowsShown);
  const pinned = new Set(state.pins);
  let body = "";
  for (const i of shown) {
    const c = configurations[cells.configuration[i]];
    body += `<tr aria-selected="${pinned.has(c.id)}">`;
    for (const name of heads) {
      const text = escaped(texts[name](i));
      if (name === "configuration") body += `<td><button type="button" data-pin="${c.id}" aria-pressed="${pinned.has(c.id)}" title="pin">${text || "–"}</button></td>`;
      else if (name === "method") body += `<td><span class="glyph t${cells.method[i] % COLOURS}" aria-hidden="true">${GLYPHS[cells.method[i] % SHAPES]}</span> ${text}${cells.marks[i] ? ` <abbr title="${escaped([...cells.marks[i]].map((mark) => data.marks[mark]).join("; "))}">${escaped(cells.marks[i])}</abbr>` : ""}</td>`;
      else if (name === "outcome" && cells.outcome[i] !== "ok") body += `<td class="bad">${text}</td>`;
      else body += name === "seed" ? `<td class="n">${text}</td>` : `<td>${text}</td>`;
    }
    for (const name of names) {
      const value = data.values[name]?.[i];
      const error = data.errors[name]?.[i];
      // Shares have a bar: its length is read faster than digits.
      const bar = shares.has(name) && value !== null && value >= 0 && value <= 1 ? ` style="--share:${(100 * value).toFixed(1)}%"` : "";
      body += value === null || value === undefined ? `<td class="n">–</td>` : `<td class="n"${bar}${error ? ` title="standard error ${written(name, error)}"` : ""}>${written(name, value)}</td>`;
    }
    body += `<td><span class="key" title="${cells.key[i]}">${cells.key[i].slice(0, 12)}</span></td></tr>`;
  }
  const head = heads.map((name) => heading(name, name === "seed")).join("") + names.map((name) => heading(name, true)).join("") + `<th scope="col">key</th>`;
  element("cells").innerHTML = `<caption class="sr">One row for each measured cell</caption><thead><tr>${head}</tr></thead><tbody>${body}</tbody>`;
  element("cells-count").textContent = `${rows.length} of ${cells.key.length} cells`;
  const more = element("more");
  more.hidden = rows.length <= shown.length;
  more.textContent = `show all ${rows.length}`;
  document.documentElement.dataset.tableMs = (performance.now() - before).toFixed(1);
}
function drawColumns() {
  const chosen = new Set(columns());
  element("column-list").innerHTML = measured.map((name) => `<label><input type="checkbox" data-column="${escaped(name)}"${chosen.has(name) ? " checked" : ""}> ${escaped(name)}</label>`).join("");
}
function drawFailures() {
  const wanted = cellFilter();
  const failed = cells.key.map((_, i) => i).filter((i) => cells.outcome[i] !== "ok");
  const shown = failed.filter(wanted);
  element("failures").hidden = failed.length === 0;
  const rows = shown.slice(0, 1000).map((i) => `<tr><td>${escaped(spaceName(cells.space[i]))}</td><td>${escaped(methods[cells.method[i]].id)}</td><td>${escaped(cells.label[i])}</td><td class="n">${escaped(cells.seed[i])}</td><td class="bad">${escaped(cells.outcome[i])}</td><td class="wide">${escaped(cells.error[i] ?? "")}</td><td><span class="key">${cells.key[i].slice(0, 12)}</span></td></tr>`).join("");
  element("failure-table").innerHTML = `<thead><tr>${["data set", "method", "configuration", "seed", "outcome", "cause", "key"].map((h) => `<th scope="col">${h}</th>`).join("")}</tr></thead><tbody>${rows}</tbody>`;
  element("failures-heading").textContent = `Cells that did not go well: ${shown.length}${shown.length < failed.length ? ` of ${failed.length}` : ""}`;
}

// ---- answer

function drawAnswer() {
  const answer = element("answer");
  const metric = state.recall;
  answer.replaceChildren();
  if (!metric) { answer.textContent = "No recall was measured."; return; }
  const size = meansOf(SIZE);
  const bits = meansOf("bits_per_dim");
  const here = configurations.filter((c) => c.space === state.space && isOk(c) && mayLead(c) && Number.isFinite(meansOf(metric)[c.id]));
  const limits = here.map((c) => ({ c, size: Number.isFinite(size[c.id]) ? size[c.id] : bits[c.id], limit: lowerLimit(metric, c) })).filter((one) => Number.isFinite(one.size));
  const enough = limits.filter((one) => one.limit !== null && one.limit >= state.target).sort((a, b) => a.size - b.size || Number(b.limit) - Number(a.limit));
  const best = limits.filter((one) => one.limit !== null).sort((a, b) => Number(b.limit) - Number(a.limit))[0];
  const one = enough[0] ?? best;
  if (!one) {
    answer.textContent = "Nothing on this data set is proven, weighed and has a standard error: no code is recommended.";
    return;
  }
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.pin = String(one.c.id);
  button.textContent = nameOf(one.c);
  const numbers = ` stores ${one.size.toFixed(2)} bits per dimension with its model (${bits[one.c.id].toFixed(2)} without): ${metric} ${meansOf(metric)[one.c.id].toFixed(4)}, at least ${Number(one.limit).toFixed(4)} (one-sided 95 % limit over queries and seeds).`;
  answer.append(...(enough.length ? [] : [`Nothing here reaches ${state.target} for certain. The best is `]), button, numbers);
  if (enough.length > 1) answer.append(` ${enough.length - 1} larger ${enough.length === 2 ? "one does" : "ones do"} as well.`);
}

// ---- what stands below

function drawFixed() {
  const heads = (/** @type {string[]} */ names) => `<thead><tr>${names.map((name) => `<th scope="col">${name}</th>`).join("")}</tr></thead>`;
  const key = (/** @type {string | null} */ text) => (text ? `<span class="key">${escaped(text)}</span>` : "–");
  element("spaces").innerHTML = heads(["data set", "rows", "dimensions", "queries", "metric", "rows to learn from", "to be known", "digest"]) + "<tbody>" + spaces.map((s) =>
    `<tr><td>${escaped(s.name)}</td><td class="n">${s.n}</td><td class="n">${s.dim}</td><td class="n">${s.queries}</td><td>${escaped(s.metric)}</td><td class="n">${s.train_rows ?? "–"}</td><td class="wide">${escaped(s.notes.join("; "))}</td><td>${key(s.digest)}</td></tr>`).join("") + "</tbody>";
  element("methods").innerHTML = heads(["method", "version", "plugin", "SDK", "ABI", "plugin digest", "digest of its libraries"]) + "<tbody>" + methods.flatMap((m, at) => m.builds.map((b) =>
    `<tr><td>${symbol(at)} ${escaped(m.id)}</td><td>${escaped(b.version)}</td><td>${escaped(b.file)}</td><td>${escaped(b.sdk)}</td><td>${escaped(b.abi)}</td><td class="wide">${key(b.plugin_digest)}</td><td class="wide">${key(b.needs_digest)}</td></tr>`)).join("") + "</tbody>";
  element("metrics").innerHTML = heads(["metric", "unit", "better", "meaning"]) + "<tbody>" + metrics.filter((m) => measured.includes(m.name)).map((m) =>
    `<tr><td>${escaped(m.name)}</td><td>${escaped(m.unit)}</td><td>${{ higher: "higher", lower: "lower", near: `near ${m.ideal}`, neither: "" }[m.better]}</td><td>${escaped(m.meaning)}</td></tr>`).join("") + "</tbody>";
  const cellsOf = new Map(/** @type {[number | null, number][]} */ ([]));
  for (const run of cells.run) cellsOf.set(run, (cellsOf.get(run) ?? 0) + 1);
  element("runs").innerHTML = data.runs.map((run, at) => {
    const facts = /** @type {[string, string][]} */ ([
      ["started", run.started_at], ["cells", String(cellsOf.get(at) ?? 0)], ["vq-host", run.host_version], ["processor", run.cpu_model ?? "unknown"],
      ["threads at once", String(run.cores)], ["memory", run.memory_bytes === null ? "unknown" : `${(run.memory_bytes / 2 ** 30).toFixed(1)} GiB`],
      ["system", run.os], ["features", run.cpu_features.join(" ")], ["environment of workers", Object.entries(run.environment).map(([n, v]) => `${n}=${v}`).join(" ") || "nothing set"],
    ]);
    return `<h3>Run <span class="key">${escaped(run.run_id)}</span></h3><dl>${facts.map(([n, v]) => `<dt>${n}</dt><dd>${escaped(v)}</dd>`).join("")}</dl><details><summary>sweep ${escaped(run.sweep_name)}</summary><pre tabindex="0">${escaped(run.sweep_text)}</pre></details>`;
  }).join("") || "<p>The store has no description of its runs.</p>";
  const ok = cells.outcome.filter((outcome) => outcome === "ok").length;
  element("about").textContent = `${cells.key.length} ${cells.key.length === 1 ? "cell" : "cells"}, ${ok} of them ok · ${spaces.length} data ${spaces.length === 1 ? "set" : "sets"} · ${methods.length} ${methods.length === 1 ? "method" : "methods"} · from the store ${data.store}`;
  element("made").textContent = `Made by vq-host ${data.host_version} from the store alone. Each number belongs to the record of its key: vq-host results ${data.store} --format json.`;
}

// ---- all of it

/** @param {{chart?: boolean, table?: boolean, pins?: boolean, legend?: boolean, columns?: boolean, failures?: boolean, answer?: boolean}} what */
function draw(what) {
  const before = performance.now();
  if (what.chart) drawChart();
  if (what.legend) drawLegend();
  if (what.table) drawTable();
  if (what.pins) drawPins();
  if (what.columns) drawColumns();
  if (what.failures) drawFailures();
  if (what.answer) drawAnswer();
  writeAddress();
  document.documentElement.dataset.redrawMs = (performance.now() - before).toFixed(1);
}
const everything = { chart: true, table: true, pins: true, legend: true, columns: true, failures: true, answer: true };

function setTheme() {
  const dark = state.theme === "dark" || (state.theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  element("theme").textContent = `theme: ${state.theme}`;
}
function setControls() {
  select("space").value = String(state.space);
  select("x").value = state.x;
  select("y").value = state.y;
  input("log-x").checked = state.logX;
  input("log-y").checked = state.logY;
  select("lines").value = state.lines;
  input("bands").checked = state.bands;
  input("filter").value = state.filter;
  input("all-spaces").checked = state.all;
  select("answer-metric").value = state.recall;
  input("answer-target").value = String(state.target);
  setTheme();
}
/** @param {string} id @param {string} event @param {() => void} change @param {Parameters<typeof draw>[0]} what */
function on(id, event, change, what) {
  element(id).addEventListener(event, () => { change(); draw(what); });
}
const measure = { chart: true, table: true, columns: true };
/** Other numbers have other scales, and no part of the former ones. */
function otherNumbers() {
  usualScales();
  state.zoom = null;
  input("log-x").checked = state.logX;
  input("log-y").checked = state.logY;
}
on("space", "change", () => { state.space = Number(select("space").value); otherNumbers(); }, everything);
on("x", "change", () => { state.x = select("x").value; otherNumbers(); }, measure);
on("y", "change", () => { state.y = select("y").value; otherNumbers(); }, measure);
on("log-x", "change", () => { state.logX = input("log-x").checked; }, { chart: true });
on("log-y", "change", () => { state.logY = input("log-y").checked; }, { chart: true });
on("whole", "click", () => { state.zoom = null; chart.focus(); }, { chart: true });
on("lines", "change", () => { state.lines = select("lines").value; }, { chart: true });
on("bands", "change", () => { state.bands = input("bands").checked; }, { chart: true });
on("filter", "input", () => { state.filter = input("filter").value; rowsShown = ROWS; }, { chart: true, table: true, failures: true });
on("all-spaces", "change", () => { state.all = input("all-spaces").checked; }, { table: true });
on("answer-metric", "change", () => { state.recall = select("answer-metric").value; }, { answer: true, chart: true });
on("answer-target", "input", () => { const t = Number(input("answer-target").value); if (t >= 0 && t <= 1) state.target = t; }, { answer: true, chart: true });
on("more", "click", () => { rowsShown = Infinity; }, { table: true });
on("reset", "click", () => { const { theme } = state; state = { ...initial(), theme }; usualScales(); setControls(); }, everything);
on("theme", "click", () => { state.theme = { auto: "light", light: "dark", dark: "auto" }[state.theme] ?? "auto"; setTheme(); }, {});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", setTheme);
element("column-list").addEventListener("change", (event) => {
  const box = event.target;
  if (!(box instanceof HTMLInputElement)) return;
  const name = box.dataset.column ?? "";
  state.columns = box.checked ? [...columns(), name] : columns().filter((other) => other !== name);
  draw({ table: true });
});
element("legend").addEventListener("click", (event) => {
  const button = event.target instanceof Element ? event.target.closest("button") : null;
  if (!button) return;
  const { method, family, every } = button.dataset;
  if (method !== undefined && event.shiftKey) return only(Number(method));
  const these = every !== undefined ? methods.map((_, m) => m) : method !== undefined ? [Number(method)] : families.get(family ?? "") ?? [];
  const off = every !== undefined ? every === "off" : button.getAttribute("aria-pressed") === "true";
  for (const m of these) { if (off) state.off.add(m); else state.off.delete(m); }
  draw({ chart: true, table: true, legend: true, failures: true });
});
/** Shows one method alone, or all where it is alone already. @param {number} method */
function only(method) {
  const alone = !state.off.has(method) && state.off.size === methods.length - 1;
  state.off = new Set(alone ? [] : methods.keys());
  state.off.delete(method);
  draw({ chart: true, table: true, legend: true, failures: true });
}
element("legend").addEventListener("dblclick", (event) => {
  const method = event.target instanceof Element ? /** @type {HTMLElement | null} */ (event.target.closest("[data-method]"))?.dataset.method : undefined;
  if (method !== undefined) only(Number(method));
});
for (const id of ["cells", "answer", "pin-table"]) {
  element(id).addEventListener("click", (event) => {
    const button = event.target instanceof Element ? event.target.closest("button") : null;
    if (!button) return;
    const { pin, unpin, sort } = button.dataset;
    if (pin !== undefined || unpin !== undefined) togglePin(Number(pin ?? unpin));
    if (pin !== undefined) /** @type {HTMLElement | null} */ (element(id).querySelector(`[data-pin="${pin}"]`))?.focus();
    if (sort === undefined) return;
    const best = known.get(sort)?.better === "higher" ? "-" : "";
    const current = state.sort;
    state.sort = current.replace(/^-/, "") !== sort ? best + sort : current.startsWith("-") ? sort : "-" + sort;
    draw({ table: true });
    /** @type {HTMLElement | null} */ (element(id).querySelector(`[data-sort="${CSS.escape(sort)}"]`))?.focus();
  });
}
const chart = element("chart");
/** Where a part began to be drawn out, in pixels of the chart; a finger scrolls instead. @type {[number, number] | null} */
let from = null;
let drawnOut = false;
/** @param {MouseEvent} event @returns {[number, number]} */
function placeOf(event) {
  const box = chart.getBoundingClientRect();
  const zoom = chartWidth() / box.width;
  return [(event.clientX - box.left) * zoom, (event.clientY - box.top) * zoom];
}
chart.addEventListener("pointerdown", (event) => {
  drawnOut = false;
  if (event.button === 0 && event.pointerType !== "touch") from = placeOf(event);
});
addEventListener("pointerup", (event) => {
  const [start, end] = [from, placeOf(event)];
  from = null;
  document.getElementById("part")?.remove();
  if (!start || !drawnOut) return;
  const x = [unscaled.x(start[0]), unscaled.x(end[0])].sort((a, b) => a - b);
  const y = [unscaled.y(start[1]), unscaled.y(end[1])].sort((a, b) => a - b);
  if (x[0] < x[1] && y[0] < y[1]) state.zoom = { x: [x[0], x[1]], y: [y[0], y[1]] };
  draw({ chart: true });
});
/** @param {PointerEvent} event */
function drawPart(event) {
  const [[x0, y0], [x1, y1]] = [from ?? [0, 0], placeOf(event)];
  drawnOut ||= Math.abs(x1 - x0) > 8 && Math.abs(y1 - y0) > 8;
  if (!drawnOut) return;
  hideTip();
  let part = document.getElementById("part");
  if (!part) {
    chart.querySelector("svg")?.insertAdjacentHTML("beforeend", '<rect id="part" class="ring"/>');
    part = document.getElementById("part");
  }
  for (const [name, value] of [["x", Math.min(x0, x1)], ["y", Math.min(y0, y1)], ["width", Math.abs(x1 - x0)], ["height", Math.abs(y1 - y0)]]) part?.setAttribute(String(name), Number(value).toFixed(1));
}
/** Shows a part about a place, or more than now. @param {number} times @param {Point | undefined} p */
function magnify(times, p) {
  const box = chart.querySelector("svg")?.viewBox.baseVal ?? new DOMRect(0, 0, 1, 1);
  const [cx, cy] = p ? [p.px, p.py] : [box.width / 2, box.height / 2];
  const [w, h] = [box.width / 2 / times, box.height / 2 / times];
  const kept = p?.c.id;
  state.zoom = { x: [unscaled.x(cx - w), unscaled.x(cx + w)], y: [unscaled.y(cy + h), unscaled.y(cy - h)] };
  draw({ chart: true });
  walked = [...points].sort((a, b) => a.px - b.px || b.py - a.py).findIndex((q) => q.c.id === kept);
}
chart.addEventListener("pointermove", (event) => {
  if (from) { drawPart(event); if (drawnOut) return; }
  const p = nearest(event);
  if (p) showTip(p);
  else hideTip();
});
chart.addEventListener("pointerleave", hideTip);
chart.addEventListener("blur", hideTip);
chart.addEventListener("dblclick", () => { state.zoom = null; draw({ chart: true }); });
chart.addEventListener("click", (event) => {
  if (drawnOut) return;
  const p = nearest(event);
  if (p) togglePin(p.c.id);
});
chart.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
  const order = [...points].sort((p, q) => p.px - q.px || q.py - p.py);
  if (step && order.length) {
    walked = walked < 0 ? (step > 0 ? 0 : order.length - 1) : (walked + step + order.length) % order.length;
    const p = order[walked];
    showTip(p);
    element("live").textContent = `${nameOf(p.c)}: ${state.x} ${written(state.x, p.x)}, ${state.y} ${written(state.y, p.y)}${p.front ? ", best of its method" : ""}`;
  } else if (event.key === "Enter" && walked >= 0 && order[walked]) {
    const at = walked;
    const { id } = order[walked].c;
    togglePin(id);
    walked = at;
    element("live").textContent = state.pins.includes(id) ? "pinned" : "no longer pinned";
  } else if (event.key === "+" || event.key === "-") magnify(event.key === "+" ? 2 : 0.5, order[walked]);
  else if (event.key === "0") {
    state.zoom = null;
    draw({ chart: true });
  } else if (event.key === "Escape") {
    state.pins = [];
    draw({ chart: true, table: true, pins: true });
  } else return;
  event.preventDefault();
});

/** The view with its legend as a file of its own: styles written into it. */
function standalone() {
  const kept = points;
  const width = Math.max(720, Math.floor(chart.clientWidth));
  const holder = document.createElement("div");
  holder.id = "chart";
  holder.innerHTML = chartSvg(width, true);
  const svg = /** @type {SVGSVGElement} */ (holder.firstElementChild);
  chart.replaceChildren(svg);
  const wanted = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "opacity", "font-family", "font-size"];
  for (const node of svg.querySelectorAll("path, line, text, circle")) {
    const style = getComputedStyle(node);
    for (const name of wanted) {
      const value = style.getPropertyValue(name);
      if (value) node.setAttribute(name, value);
    }
  }
  const [, , w, h] = (svg.getAttribute("viewBox") ?? "").split(" ");
  svg.setAttribute("width", w);
  svg.setAttribute("height", h);
  svg.querySelector("#hover")?.remove();
  const paper = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of [["width", w], ["height", h], ["fill", getComputedStyle(document.body).backgroundColor]]) paper.setAttribute(name, value);
  svg.prepend(paper);
  for (const node of [svg, ...svg.querySelectorAll("[class]")]) node.removeAttribute("class");
  const text = new XMLSerializer().serializeToString(svg);
  points = kept;
  drawChart();
  return { text, width: Number(w), height: Number(h) };
}
/** @param {Blob} blob @param {string} ending */
function save(blob, ending) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${spaceName(state.space)}-${state.y}-${state.x}`.replace(/[^\w.@=-]+/g, "_") + ending;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
element("svg").addEventListener("click", () => save(new Blob([standalone().text], { type: "image/svg+xml" }), ".svg"));
element("png").addEventListener("click", () => {
  const { text, width, height } = standalone();
  const image = new Image();
  image.onload = () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [2 * width, 2 * height];
    canvas.getContext("2d")?.drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => { if (blob) save(blob, ".png"); }, "image/png");
  };
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
});
element("copy").addEventListener("click", async () => {
  writeAddress();
  const button = element("copy");
  try {
    await navigator.clipboard.writeText(location.href);
    button.textContent = "copied";
  } catch {
    button.textContent = "copy it from the address bar";
  }
  setTimeout(() => { button.textContent = "copy link"; }, 2500);
});
addEventListener("hashchange", () => { readAddress(); setControls(); draw(everything); });
let printing = 0;
addEventListener("beforeprint", () => { printing = rowsShown; rowsShown = Infinity; drawTable(); for (const d of document.querySelectorAll("#runs details")) d.setAttribute("open", ""); });
addEventListener("afterprint", () => { rowsShown = printing; drawTable(); });
let drawnWidth = 0;
new ResizeObserver(() => {
  if (Math.abs(chart.clientWidth - drawnWidth) > 1) { drawnWidth = chart.clientWidth; drawChart(); }
}).observe(chart);

/** What a metric is about, by its unit. @param {string} name */
const groupOf = (name) => {
  const unit = known.get(name)?.unit ?? "";
  if (unit === "bits" || unit === "bytes" || name.startsWith("ratio")) return "size and memory";
  return unit === "s" || unit.endsWith("/s") ? "time and speed" : /recall|ndcg|rank_|distance_ratio|sos|kendall|spearman/.test(name) ? "search" : "error";
};
/** @param {string[]} names */
const options = (names) => names.map((name) => `<option value="${escaped(name)}">${escaped(name)}</option>`).join("");
/** @param {string[]} names */
const grouped = (names) => ["size and memory", "search", "error", "time and speed"].map((group) => {
  const these = names.filter((name) => groupOf(name) === group);
  return these.length ? `<optgroup label="${group}">${options(these)}</optgroup>` : "";
}).join("");
select("space").innerHTML = spaces.map((_, s) => `<option value="${s}">${escaped(spaceName(s))}</option>`).join("");
select("x").innerHTML = grouped(measured);
select("y").innerHTML = grouped(measured);
select("answer-metric").innerHTML = options(recalls);
if (cells.key.length === 0) element("about").textContent = `The store ${data.store} has no cells yet.`;
else {
  readAddress();
  setControls();
  drawFixed();
  drawnWidth = chart.clientWidth;
  draw(everything);
}
document.documentElement.dataset.ready = "1";

export {};
