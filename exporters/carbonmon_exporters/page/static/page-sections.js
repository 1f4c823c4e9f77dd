// The parts of the page below one another, each made anew from the newest answer.

import { COMPONENTS, phaseClass, phasesOf, sparkline } from "/page-chart.js";
import { clock, day, duration, energy, figure, h, mass, percent, plain, power, s, UNKNOWN } from "/page-text.js";

const KNOWN = { measured: ["●", "measured"], estimated: ["◇", "estimated"] };

/** How a figure is known: a sign and a word, never a colour alone. */
export function mark(knownBy) {
  const [sign, word] = KNOWN[knownBy] ?? ["–", "not known"];
  return h("span", { class: `mark ${knownBy ?? "none"}` }, h("span", { "aria-hidden": "true" }, `${sign} `), word);
}

/** What the run is, in a heading and a line. */
export function runHead(now) {
  const run = now.run;
  if (!run) {
    return [h("h2", {}, "No run at the moment"), h("p", {}, "Below is the node. A run appears here with ",
      h("code", {}, "carbonmon run -- COMMAND"), ", ", h("code", {}, "track()"), " or ", h("code", {}, "carbonmon register"), ".")];
  }
  const parts = [`began ${day(run.started_at_s)} ${clock(run.started_at_s)}`];
  if (run.state === "ended") parts.push(`ended ${clock(run.ended_at_s)} after ${duration(run.duration_s)}`, outcome(run));
  else parts.push(`running for ${duration(run.duration_s)}`, `phase ${plain(run.phase)}`);
  const head = [h("h2", {}, plain(run.name || run.id), " ", h("span", { class: "id" }, plain(run.id))), h("p", {}, parts.join(" · "))];
  const { running, ended } = now.runs;
  if (running + ended > 1) head.push(h("p", {}, h("a", { href: "#runs" }, `One of ${running} running and ${ended} ended runs`)));
  if (run.state === "ended") head.push(h("p", {}, "The final figures are printed by ", h("code", {}, `carbonmon report ${run.id}`), "."));
  if (run.progress_ratio !== null && run.state !== "ended") {
    head.push(h("p", { class: "progress" }, h("progress", { value: run.progress_ratio, max: 1, "aria-label": "Steps done" }),
      ` ${percent(run.progress_ratio)} of its steps`));
  }
  for (const note of run.notes) head.push(h("p", { class: "note" }, plain(note)));
  return head;
}

function outcome(run) {
  if (run.signal !== null) return `by signal ${run.signal}`;
  return run.exit_code === null ? "exit code not known" : `exit code ${run.exit_code}`;
}

/** The figures: each a name, a value and how it is known. */
export function figures(now) {
  const { run, node, intensity } = now;
  const tiles = [];
  if (run && run.state !== "ended") tiles.push(tile("Power now", power(run.power_w), powerDetail(run)));
  if (!run) tiles.push(tile("Power now", power(node.power_w), "all devices of this node"));
  if (run) {
    tiles.push(tile("Energy", energy(run.energy_j), range(run.energy_low_j, run.energy_high_j, energy), measuredPart(run)));
    tiles.push(tile("Emissions", run.emissions_g === null ? UNKNOWN : `${mass(run.emissions_g)} CO₂e`, range(run.emissions_low_g, run.emissions_high_g, mass), `PUE ${now.pue_ratio.toFixed(2)} included`));
    for (const cost of run.costs) tiles.push(tile("Cost", `${cost.amount.toFixed(2)} ${plain(cost.currency)}`));
    if (run.water_l !== null) tiles.push(tile("Water", `${figure(run.water_l)} l`));
  }
  tiles.push(tile("Intensity", `${figure(intensity.g_per_kwh)} g/kWh`, intensityDetail(intensity), plain([intensity.kind, intensity.source].join(", "))));
  if (node.devices.length) {
    tiles.push(tile("Unattributed", energy(node.unattributed_j), node.energy_j > 0 ? `${percent(node.unattributed_j / node.energy_j)} of this node's energy, of no run` : "energy of no run"));
  }
  return h("dl", { class: "figures" }, tiles);
}

function tile(name, value, ...details) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, h("span", { class: "value" }, value), details.filter(Boolean).map((detail) => h("span", { class: "detail" }, detail))));
}

function powerDetail(run) {
  const missing = run.unknown_devices ? `; ${run.unknown_devices} of its devices not known` : "";
  if (run.power_w === null) return `none of its devices is known now`;
  const estimated = run.estimated_power_w;
  if (!estimated) return [mark("measured"), missing];
  if (estimated >= run.power_w) return [mark("estimated"), missing];
  return [mark("measured"), ` ${power(run.power_w - estimated)}, `, mark("estimated"), ` ${power(estimated)}`, missing];
}

function range(low, high, format) {
  if (low === null || high === null) return "range not known";
  return low === 0 && high === 0 ? "" : `${format(low)} to ${format(high)}`;
}

function measuredPart({ energy_j: joules, measured_ratio: ratio }) {
  if (joules === null) return "no device of it is metered";
  if (ratio === null) return "nothing drawn yet";
  if (ratio === 1) return mark("measured");
  return ratio === 0 ? mark("estimated") : [`${percent(ratio)} `, mark("measured")];
}

function intensityDetail({ zone, low_g_per_kwh: low, high_g_per_kwh: high, year }) {
  const where = zone ? plain(zone) : "no zone";
  return `${where}${year ? ` ${year}` : ""}${low < high ? `, ${figure(low)} to ${figure(high)}` : ""}`;
}

/** Time, energy and grams of each phase. */
export function phaseTable(run, history) {
  if (!run || run.phases.length < 1) return [];
  const shown = phasesOf(history.columns);
  return [h("h2", {}, "Phases"), table("Phases", ["Phase", "Time", "Energy", "Share", "CO₂e"], run.phases.map((phase) => [
    [shown.includes(phase.name) && h("span", { class: `square ${phaseClass(shown, phase.name)}`, "aria-hidden": "true" }), plain(phase.name)],
    duration(phase.duration_s), energy(phase.energy_j), run.energy_j > 0 ? percent(phase.energy_j / run.energy_j) : UNKNOWN, mass(phase.emissions_g),
  ]), [1, 2, 3, 4])];
}

/** Power now and over time, device by device. */
export function deviceTable(now, history) {
  const devices = now.node.devices;
  if (!devices.length) return [h("h2", {}, "Devices"), h("p", {}, "No device is metered here: see the sensors below.")];
  const own = new Map((now.run?.devices ?? []).map((device) => [device.id, device]));
  const most = Math.max(1, ...devices.map((device) => device.peak_power_w ?? device.power_w ?? 0));
  const columns = history.columns;
  const head = ["Device", "Known by", "Power now", "", now.run ? "Run's part" : "", "Over time", now.run ? "Run's energy" : "Energy", "Use", "Unattributed"];
  const rows = devices.map((device) => {
    const part = own.get(device.id);
    return [
      [h("span", { class: "name" }, deviceName(device)), h("span", { class: "id" }, plain(device.name))],
      mark(device.power_w === null ? null : device.known_by), power(device.power_w), bar(device, most), now.run && now.run.state !== "ended" ? power(part?.power_w) : "",
      sparkline(columns, device.id, device.component, device.known_by !== "measured"),
      energy(now.run ? part?.energy_j : device.energy_j), percent(device.utilization_ratio), energy(device.unattributed_j),
    ];
  });
  return [h("h2", {}, "Devices"), table("Devices", head, rows, [2, 4, 6, 7, 8])];
}

function deviceName(device) {
  const kind = { gpu: "GPU", cpu: "CPU", dram: "memory", module: "module" }[device.component] ?? plain(device.component);
  return device.index === null ? `${kind} ${plain(device.id)}` : `${kind} ${device.index}`;
}

/** A bar: full where measured, hollow and dashed where estimated. */
function bar(device, most) {
  const width = device.power_w === null ? 0 : Math.max(1, (device.power_w / most) * 90);
  return s("svg", { class: "bar", width: 92, height: 14, viewBox: "0 0 92 14", "aria-hidden": "true" },
    s("rect", { class: `area ${device.component}${device.known_by === "measured" ? "" : " hollow"}`, x: 1, y: 2, width, height: 10 }));
}

/** Every source, what it does, and what would mend it. */
export function sensorTable(now) {
  const rows = now.sensors.map((sensor) => [
    plain(sensor.name), sensorState(sensor), plain(sensor.reason ?? ""),
    sensor.remedy ? h("code", {}, plain(sensor.remedy)) : "",
    Object.entries(sensor.errors).map(([reason, count]) => `${plain(reason)}: ${count}`).join(", ") || "none",
  ]);
  if (!rows.length) return [h("h2", {}, "Sensors"), h("p", {}, "No sensor is known; ", h("code", {}, "carbonmon doctor"), " says why.")];
  return [h("h2", {}, "Sensors"), table("Sensors", ["Source", "State", "Why", "What mends it", "Failed reads"], rows)];
}

function sensorState(sensor) {
  const [sign, word, kind] = !sensor.is_used ? ["○", "not used", "off"] : sensor.is_up ? ["●", "works", "up"] : ["✕", "lost", "down"];
  return h("span", { class: `state ${kind}` }, h("span", { "aria-hidden": "true" }, `${sign} `), word);
}

/** The runs of the node, each a link to it. */
export function runTable(runs, shownId) {
  const rows = runs.map((run) => [
    [h("a", { href: `?run=${encodeURIComponent(run.id)}`, "aria-current": run.id === shownId ? "true" : null }, plain(run.name || run.id)), h("span", { class: "id" }, plain(run.id))],
    run.state === "ended" ? `ended ${clock(run.ended_at_s, false)}, ${outcome(run)}` : `running, ${plain(run.phase)}`,
    duration(run.duration_s), run.state === "ended" ? "" : power(run.power_w), energy(run.energy_j),
    run.measured_ratio === null ? UNKNOWN : percent(run.measured_ratio), mass(run.emissions_g),
  ]);
  return [h("h2", {}, "Runs"), table("Runs", ["Run", "State", "Time", "Power now", "Energy", "Measured", "CO₂e"], rows, [2, 3, 4, 5, 6])];
}

/** A table that scrolls in itself where the screen is narrow; `numbers` are the columns aligned right. */
export function table(label, head, rows, numbers = []) {
  const side = (place) => (numbers.includes(place) ? "number" : null);
  return h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": `${label}, a table` }, h("table", {},
    h("thead", {}, h("tr", {}, head.map((name, place) => (name ? h("th", { scope: "col", class: side(place) }, name) : h("td"))))),
    h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell, place) => (place ? h("td", { class: side(place) }, cell) : h("th", { scope: "row" }, cell))))))));
}

/** What the plot holds, in a few rows: for who cannot see it. */
export function plotTable(history, layers, watts, most = 24) {
  const columns = history.columns;
  const every = Math.max(1, Math.ceil(columns.length / most));
  const rows = [];
  for (let from = 0; from < columns.length; from += every) {
    const group = columns.slice(from, from + every).filter((column) => column.devices.size);
    const mean = ([component, isEstimated]) => (group.length ? power(group.reduce((sum, column) => sum + watts(history, column, component, isEstimated), 0) / group.length) : UNKNOWN);
    rows.push([`${clock(columns[from].beginS)} to ${clock(columns[Math.min(from + every, columns.length) - 1].endS)}`, ...layers.map(mean), phasesOf(group).map(plain).join(", ")]);
  }
  const names = layers.map(([component, isEstimated]) => `${COMPONENTS.get(component)}, ${isEstimated ? "estimated" : "measured"}`);
  return table("Power over time", ["Time", ...names, "Phases"], rows, layers.map((_, place) => place + 1));
}
