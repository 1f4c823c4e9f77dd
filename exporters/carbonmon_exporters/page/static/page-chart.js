// Power over time as SVG: areas for components, solid where measured, hatched where estimated.

import { clock, day, s } from "/page-text.js";

export const COMPONENTS = new Map([
  ["gpu", "GPUs"],
  ["cpu", "CPUs"],
  ["dram", "memory"],
  ["module", "modules"],
]);
const HEIGHT = 250;
const LEFT = 56;
const RIGHT = 10;
const TOP = 10;
const STRIP = 16;
const AXIS = 24;
const TICKS_S = [
  1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800,
  1209600,
];

/** The layers of the stack that there are: [component, whether it is estimated]. */
export function layersOf(history) {
  const columns = history.columns;
  const layers = [];
  for (const component of COMPONENTS.keys()) {
    for (const isEstimated of [false, true]) {
      if (columns.some((column) => watts(history, column, component, isEstimated) > 0))
        layers.push([component, isEstimated]);
    }
  }
  return layers;
}

/** The power of a layer in a column. */
export function watts(history, column, component, isEstimated) {
  let sum = 0;
  for (const [id, { w, measured }] of column.devices) {
    if (history.components.get(id) === component) sum += w * (isEstimated ? 1 - measured : measured);
  }
  return sum;
}

/** All phases, the longest first. */
export function phasesOf(columns) {
  const seconds = new Map();
  for (const column of columns) {
    for (const [name, part] of column.phases) {
      seconds.set(name, (seconds.get(name) ?? 0) + part * (column.endS - column.beginS));
    }
  }
  return [...seconds.keys()].sort((one, other) => seconds.get(other) - seconds.get(one));
}

export const phaseClass = (phases, name) => `phase-${Math.min(phases.indexOf(name), 6)}`;

/** The whole plot, `width` pixels wide, with a line at the column that is read. */
export function chart(history, width, chosen, label) {
  const columns = history.columns;
  const layers = layersOf(history);
  const beginS = columns[0].beginS;
  const endS = Math.max(columns[columns.length - 1].endS, beginS + 1);
  const x = (atS) => LEFT + ((atS - beginS) / (endS - beginS)) * (width - LEFT - RIGHT);
  const most = Math.max(
    1,
    ...columns.map((column) => [...column.devices.values()].reduce((sum, { w }) => sum + w, 0)),
  );
  const step = niceStep(most / 5);
  const top = Math.ceil(most / step) * step;
  const floor = HEIGHT - AXIS - STRIP - 6;
  const y = (w) => floor - (w / top) * (floor - TOP);
  const plot = s("svg", {
    class: "chart",
    width,
    height: HEIGHT,
    viewBox: `0 0 ${width} ${HEIGHT}`,
    role: "img",
    "aria-label": label,
  });
  plot.append(
    s(
      "defs",
      {},
      layers.filter(([, isEstimated]) => isEstimated).map(([component]) => hatch(component)),
    ),
  );
  for (let w = 0; w <= top + step / 2; w += step) {
    plot.append(s("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(w), y2: y(w) }));
    plot.append(
      s("text", { class: "tick", x: LEFT - 6, y: y(w) + 4, "text-anchor": "end" }, powerTick(w, top)),
    );
  }
  let floors = columns.map(() => 0);
  for (const [component, isEstimated] of layers) {
    const roofs = columns.map(
      (column, place) => floors[place] + watts(history, column, component, isEstimated),
    );
    const { area, edge } = steps(columns, floors, roofs, x, y);
    plot.append(s("path", { ...filling(component, isEstimated), d: area }));
    if (!isEstimated) plot.append(s("path", { class: `edge ${component}`, d: edge }));
    floors = roofs;
  }
  plot.append(phaseStrip(columns, x, HEIGHT - AXIS - STRIP));
  plot.append(...timeTicks(beginS, endS, x, width));
  if (columns[chosen]) {
    const at = x((columns[chosen].beginS + columns[chosen].endS) / 2);
    plot.append(s("line", { class: "cursor", x1: at, x2: at, y1: TOP, y2: HEIGHT - AXIS }));
  }
  return plot;
}

/** The number of the column at a place of the plot. */
export function columnAt(columns, width, px) {
  const beginS = columns[0].beginS;
  const atS = beginS + ((px - LEFT) / (width - LEFT - RIGHT)) * (columns[columns.length - 1].endS - beginS);
  const found = columns.findIndex((column) => column.endS >= atS);
  return found < 0 ? columns.length - 1 : found;
}

/** One device over time: its mean as a line, its extremes as a band. */
export function sparkline(columns, id, component, isEstimated) {
  const [width, height] = [160, 28];
  const plot = s("svg", {
    class: `spark ${component ?? ""}`,
    width,
    height,
    viewBox: `0 0 ${width} ${height}`,
    "aria-hidden": "true",
  });
  const own = columns.filter((column) => column.devices.has(id));
  if (!own.length) return plot;
  const beginS = columns[0].beginS;
  const lengthS = Math.max(columns[columns.length - 1].endS - beginS, 1);
  const most = Math.max(1, ...own.map((column) => column.devices.get(id).high ?? column.devices.get(id).w));
  const x = (atS) => ((atS - beginS) / lengthS) * width;
  const y = (w) => height - 2 - (w / most) * (height - 4);
  const of = (pick) =>
    columns.map((column) => (column.devices.has(id) ? pick(column.devices.get(id)) : null));
  const band = steps(
    columns,
    of((one) => one.low ?? one.w),
    of((one) => one.high ?? one.w),
    x,
    y,
  );
  const line = steps(
    columns,
    of(() => 0),
    of((one) => one.w),
    x,
    y,
  );
  plot.append(s("path", { class: `band ${component}`, d: band.area }));
  plot.append(s("path", { class: `edge ${component}${isEstimated ? " estimated" : ""}`, d: line.edge }));
  return plot;
}

/** A square that shows how a layer is drawn. */
export function swatch(component, isEstimated) {
  return s(
    "svg",
    { class: "swatch", width: 26, height: 14, viewBox: "0 0 26 14", "aria-hidden": "true" },
    s("rect", { ...filling(component, isEstimated), x: 0, y: 2, width: 26, height: 12 }),
    isEstimated ? "" : s("path", { class: `edge ${component}`, d: "M0 2H26" }),
  );
}

function filling(component, isEstimated) {
  return isEstimated
    ? { class: "hatched", fill: `url(#hatch-${component})` }
    : { class: `area ${component}` };
}

function hatch(component) {
  return s(
    "pattern",
    {
      id: `hatch-${component}`,
      width: 6,
      height: 6,
      patternUnits: "userSpaceOnUse",
      patternTransform: "rotate(45)",
    },
    s("rect", { class: `area ${component} pale`, width: 6, height: 6 }),
    s("rect", { class: `area ${component}`, width: 2, height: 6 }),
  );
}

/** The area between two lines of steps, and its upper edge; interrupted where nothing is known. */
function steps(columns, floors, roofs, x, y) {
  let area = "";
  let edge = "";
  let from = 0;
  const isKnown = (place) => columns[place].devices.size > 0 && roofs[place] !== null;
  const isOpen = (place) => place > from && columns[place].beginS - columns[place - 1].endS < 0.001;
  while (from < columns.length) {
    if (!isKnown(from)) {
      from += 1;
      continue;
    }
    let to = from + 1;
    while (to < columns.length && isKnown(to) && isOpen(to)) to += 1;
    let upper = "";
    let lower = "";
    for (let place = from; place < to; place += 1) {
      const [x1, x2] = [x(columns[place].beginS).toFixed(1), x(columns[place].endS).toFixed(1)];
      upper += `${place === from ? `M${x1} ` : "V"}${y(roofs[place]).toFixed(1)}H${x2}`;
      lower = `V${y(floors[place]).toFixed(1)}H${x1}${lower}`;
    }
    area += `${upper}${lower}Z`;
    edge += upper;
    from = to;
  }
  return { area, edge };
}

function phaseStrip(columns, x, top) {
  const phases = phasesOf(columns);
  const strip = s("g", { "shape-rendering": "crispEdges" });
  let open = null;
  for (const column of columns) {
    let part = 0;
    for (const name of phases.filter((phase) => column.phases.has(phase))) {
      const share = column.phases.get(name);
      const [x1, x2, y1] = [x(column.beginS), x(column.endS), top + part * STRIP];
      part += share;
      if (open && open.name === name && share > 0.99 && open.whole && x1 - open.x2 < 0.01) {
        open.x2 = x2;
        open.rect.setAttribute("width", (x2 - open.x1).toFixed(1));
        continue;
      }
      const rect = s("rect", {
        class: phaseClass(phases, name),
        x: x1.toFixed(1),
        y: y1,
        width: (x2 - x1).toFixed(1),
        height: share * STRIP,
      });
      strip.append(rect);
      open = { name, x1, x2, rect, whole: share > 0.99 };
    }
  }
  return strip;
}

function timeTicks(beginS, endS, x, width) {
  const step =
    TICKS_S.find((each) => (endS - beginS) / each <= (width - LEFT) / 66) ?? TICKS_S[TICKS_S.length - 1];
  const offsetS = -new Date(beginS * 1000).getTimezoneOffset() * 60;
  const ticks = [];
  for (let atS = Math.ceil((beginS + offsetS) / step) * step - offsetS; atS <= endS; atS += step) {
    const place = x(atS);
    if (place > width - 24) break;
    const isMidnight = (atS + offsetS) % 86400 === 0;
    const text = step >= 86400 || isMidnight ? day(atS).slice(5) : clock(atS, step < 60);
    ticks.push(s("line", { class: "tick", x1: place, x2: place, y1: HEIGHT - AXIS, y2: HEIGHT - AXIS + 4 }));
    ticks.push(s("text", { class: "tick", x: place, y: HEIGHT - 6, "text-anchor": "middle" }, text));
  }
  return ticks;
}

function niceStep(least) {
  const size = 10 ** Math.floor(Math.log10(least));
  return size * ([1, 2, 2.5, 5].find((factor) => factor * size >= least) ?? 10);
}

function powerTick(w, top) {
  return top >= 1000 ? `${+(w / 1000).toFixed(2)} kW` : `${+w.toFixed(2)} W`;
}
