// The tables: phases, devices, sensors, runs, and what the plot holds.

import { COMPONENTS, phaseClass, phasesOf, sparkline } from "/page-chart.js";
import { mark, outcome, powerName } from "/page-figures.js";
import { clock, duration, h, mass, percent, phaseName, plain, power, s, UNKNOWN, UNPHASED } from "/page-text.js";

const NONE = "–";

/** Time, energy and grams of each phase; `energy` writes joules. */
export function phaseTable(run, history, energy) {
  if (!run || run.phases.length < 1) return [];
  const shown = phasesOf(history.columns);
  const joules = run.phases.map((phase) => phase.energy_j);
  const grams = run.phases.map((phase) => phase.emissions_g);
  return [
    h("h2", {}, "Phases"),
    table(
      "Phases",
      ["Phase", "Time", "Energy", "Share", "CO₂e"],
      run.phases.map((phase) => [
        [
          shown.includes(phase.name) &&
            h("span", { class: `square ${phaseClass(shown, phase.name)}`, "aria-hidden": "true" }),
          phaseName(phase.name),
        ],
        duration(phase.duration_s),
        energy(phase.energy_j, joules),
        run.energy_j > 0 ? percent(phase.energy_j / run.energy_j) : UNKNOWN,
        mass(phase.emissions_g, grams),
      ]),
      [1, 2, 3, 4],
    ),
  ];
}

/** Power now and over time, device by device. */
export function deviceTable(now, history, energy, isGone) {
  const devices = now.node.devices;
  if (!devices.length)
    return [h("h2", {}, "Devices"), h("p", {}, "No device is metered here: see the sensors below.")];
  const own = new Map((now.run?.devices ?? []).map((device) => [device.id, device]));
  const most = Math.max(1, ...devices.map((device) => device.peak_power_w ?? device.power_w ?? 0));
  const columns = history.columns;
  const head = [
    "Device",
    "Known by",
    powerName(now, isGone),
    "",
    now.run ? "Run's part" : "",
    "Over time",
    now.run ? "Run's energy" : "Energy",
    "Use",
    "Unattributed",
  ];
  const joules = devices.map((device) => (now.run ? own.get(device.id)?.energy_j : device.energy_j));
  const rest = devices.map((device) => device.unattributed_j);
  const rows = devices.map((device) => {
    const part = own.get(device.id);
    return [
      [h("span", { class: "name" }, deviceName(device)), h("span", { class: "id" }, plain(device.name))],
      mark(device.power_w === null ? null : device.known_by),
      power(device.power_w),
      bar(device, most),
      !now.run || now.run.state === "ended" ? "" : part ? power(part.power_w) : NONE,
      sparkline(columns, device.id, device.component, device.known_by !== "measured"),
      now.run ? (part ? energy(part.energy_j, joules) : NONE) : energy(device.energy_j, joules),
      percent(device.utilization_ratio),
      energy(device.unattributed_j, rest),
    ];
  });
  return [h("h2", {}, "Devices"), table("Devices", head, rows, [2, 4, 6, 7, 8])];
}

function deviceName(device) {
  const kind =
    { gpu: "GPU", cpu: "CPU", dram: "memory", module: "module" }[device.component] ?? plain(device.component);
  return device.index === null ? `${kind} ${plain(device.id)}` : `${kind} ${device.index}`;
}

/** A bar: full where measured, hollow and dashed where estimated. */
function bar(device, most) {
  const width = device.power_w === null ? 0 : Math.max(1, (device.power_w / most) * 90);
  return s(
    "svg",
    { class: "bar", width: 92, height: 14, viewBox: "0 0 92 14", "aria-hidden": "true" },
    s("rect", {
      class: `area ${device.component}${device.known_by === "measured" ? "" : " hollow"}`,
      x: 1,
      y: 2,
      width,
      height: 10,
    }),
  );
}

/** Every source, what it does, and what would mend it. */
export function sensorTable(now) {
  const rows = now.sensors.map((sensor) => [
    plain(sensor.name),
    sensorState(sensor),
    plain(sensor.reason ?? ""),
    sensor.remedy ? h("code", {}, plain(sensor.remedy)) : "",
    Object.entries(sensor.errors)
      .map(([reason, count]) => `${plain(reason)}: ${count}`)
      .join(", ") || "none",
  ]);
  if (!rows.length)
    return [
      h("h2", {}, "Sensors"),
      h("p", {}, "No sensor is known; ", h("code", {}, "carbonmon doctor"), " says why."),
    ];
  return [
    h("h2", {}, "Sensors"),
    table("Sensors", ["Source", "State", "Why", "What mends it", "Failed reads"], rows),
  ];
}

function sensorState(sensor) {
  const [sign, word, kind] = !sensor.is_used
    ? ["○", "not used", "off"]
    : sensor.is_up
      ? ["●", "works", "up"]
      : ["✕", "lost", "down"];
  return h("span", { class: `state ${kind}` }, h("span", { "aria-hidden": "true" }, `${sign} `), word);
}

/** The runs of the node, each a link to it. */
export function runTable(runs, shownId, energy, powerHead) {
  const rows = runs.map((run) => [
    [
      h(
        "a",
        { href: `?run=${encodeURIComponent(run.id)}`, "aria-current": run.id === shownId ? "true" : null },
        plain(run.name || run.id),
      ),
      h("span", { class: "id" }, plain(run.id)),
    ],
    run.state === "ended"
      ? `ended ${clock(run.ended_at_s, false)}, ${outcome(run)}`
      : run.phase === UNPHASED
        ? "running"
        : `running, ${plain(run.phase)}`,
    duration(run.duration_s),
    run.state === "ended" ? "" : power(run.power_w),
    energy(run.energy_j),
    run.measured_ratio === null ? UNKNOWN : percent(run.measured_ratio),
    mass(run.emissions_g),
  ]);
  return [
    h("h2", {}, "Runs"),
    table("Runs", ["Run", "State", "Time", powerHead, "Energy", "Measured", "CO₂e"], rows, [2, 3, 4, 5, 6]),
  ];
}

/** A table that scrolls in itself where the screen is narrow; `numbers` are the columns aligned right. */
export function table(label, head, rows, numbers = []) {
  const side = (place) => (numbers.includes(place) ? "number" : null);
  return h(
    "div",
    { class: "wide", tabindex: 0, role: "region", "aria-label": `${label}, a table` },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          head.map((name, place) => (name ? h("th", { scope: "col", class: side(place) }, name) : h("td"))),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((cells) =>
          h(
            "tr",
            {},
            cells.map((cell, place) =>
              place ? h("td", { class: side(place) }, cell) : h("th", { scope: "row" }, cell),
            ),
          ),
        ),
      ),
    ),
  );
}

/** What the plot holds, in a few rows: for who cannot see it. */
export function plotTable(history, layers, watts, most = 24) {
  const columns = history.columns;
  const every = Math.max(1, Math.ceil(columns.length / most));
  const rows = [];
  for (let from = 0; from < columns.length; from += every) {
    const group = columns.slice(from, from + every).filter((column) => column.devices.size);
    const mean = ([component, isEstimated]) =>
      group.length
        ? power(
            group.reduce((sum, column) => sum + watts(history, column, component, isEstimated), 0) /
              group.length,
          )
        : UNKNOWN;
    rows.push([
      `${clock(columns[from].beginS)} to ${clock(columns[Math.min(from + every, columns.length) - 1].endS)}`,
      ...layers.map(mean),
      phasesOf(group).map(plain).join(", "),
    ]);
  }
  const names = layers.map(
    ([component, isEstimated]) => `${COMPONENTS.get(component)}, ${isEstimated ? "estimated" : "measured"}`,
  );
  return table(
    "Power over time",
    ["Time", ...names, "Phases"],
    rows,
    layers.map((_, place) => place + 1),
  );
}
