// What a run is, in a heading, a line and its figures.

import {
  clock,
  day,
  duration,
  energyEach,
  figure,
  h,
  mass,
  money,
  percent,
  plain,
  power,
  UNKNOWN,
  UNPHASED,
} from "/page-text.js";

const KNOWN = { measured: ["●", "measured"], estimated: ["◇", "estimated"] };

/** How a figure is known: a sign and a word, never a colour alone. */
export function mark(knownBy) {
  const [sign, word] = KNOWN[knownBy] ?? ["–", "not known"];
  return h(
    "span",
    { class: `mark ${knownBy ?? "none"}` },
    h("span", { "aria-hidden": "true" }, `${sign} `),
    word,
  );
}

/** What the run is, in a heading and a line. */
export function runHead(now) {
  const run = now.run;
  if (!run) {
    return [
      h("h2", {}, "No run at the moment"),
      h(
        "p",
        {},
        "Below is the node. A run appears here with ",
        h("code", {}, "carbonmon run -- COMMAND"),
        ", ",
        h("code", {}, "track()"),
        " or ",
        h("code", {}, "carbonmon register"),
        ".",
      ),
    ];
  }
  const parts = [`began ${day(run.started_at_s)} ${clock(run.started_at_s)}`];
  if (run.state === "ended")
    parts.push(`ended ${clock(run.ended_at_s)} after ${duration(run.duration_s)}`, outcome(run));
  else {
    parts.push(`running for ${duration(run.duration_s)}`);
    if (run.phase !== UNPHASED) parts.push(`phase ${plain(run.phase)}`);
  }
  const head = [
    h("h2", {}, plain(run.name || run.id), " ", h("span", { class: "id" }, plain(run.id))),
    h("p", {}, parts.join(" · ")),
  ];
  const { running, ended } = now.runs;
  if (running + ended > 1)
    head.push(h("p", {}, h("a", { href: "#runs" }, `One of ${running} running and ${ended} ended runs`)));
  if (run.state === "ended")
    head.push(
      h("p", {}, "The final figures are printed by ", h("code", {}, `carbonmon report ${run.id}`), "."),
    );
  if (run.progress_ratio !== null && run.state !== "ended") {
    head.push(
      h(
        "p",
        { class: "progress" },
        h("progress", { value: run.progress_ratio, max: 1, "aria-label": "Steps done" }),
        ` ${percent(run.progress_ratio)} of its steps`,
      ),
    );
  }
  for (const note of run.notes) head.push(h("p", { class: "note" }, plain(note)));
  return head;
}

export function outcome(run) {
  if (run.signal !== null) return `by signal ${run.signal}`;
  return run.exit_code === null ? "exit code not known" : `exit code ${run.exit_code}`;
}

/** The name of a power: that of a monitor that is gone is none of now. */
export const powerName = (now, isGone) => (isGone ? `Power at ${clock(now.at_s)}` : "Power now");

/** The figures: each a name, a value and how it is known; `energy` writes joules. */
export function figures(now, energy, isGone) {
  const { run, node, intensity } = now;
  const tiles = [];
  const name = powerName(now, isGone);
  if (run && run.state !== "ended") tiles.push(tile(name, power(run.power_w), powerDetail(run)));
  if (!run) tiles.push(tile(name, power(node.power_w), "all devices of this node"));
  if (run) {
    tiles.push(
      tile(
        "Energy",
        energy(run.energy_j),
        range(run.energy_low_j, run.energy_high_j, energy, run.energy_j),
        measuredPart(run),
      ),
    );
    tiles.push(
      tile(
        "Emissions",
        run.emissions_g === null ? UNKNOWN : `${mass(run.emissions_g)} CO₂e`,
        range(run.emissions_low_g, run.emissions_high_g, mass, run.emissions_g),
        `PUE ${now.pue_ratio.toFixed(2)} included`,
      ),
    );
    for (const cost of run.costs) tiles.push(tile("Cost", `${money(cost.amount)} ${plain(cost.currency)}`));
    if (run.water_l !== null) tiles.push(tile("Water", `${figure(run.water_l)} l`));
  }
  if (run?.work) tiles.push(...perUnit(run.work));
  if (run) tiles.push(...outlook(run, energy));
  tiles.push(
    tile(
      "Intensity",
      `${figure(intensity.g_per_kwh)} g/kWh`,
      intensityDetail(intensity),
      plain([intensity.kind, intensity.source].join(", ")),
    ),
  );
  if (node.devices.length) {
    tiles.push(
      tile(
        "Unattributed",
        energy(node.unattributed_j),
        node.energy_j > 0
          ? `${percent(node.unattributed_j / node.energy_j)} of this node's energy, of no run`
          : "energy of no run",
      ),
    );
  }
  for (const meter of node.meters) {
    tiles.push(
      tile(
        "Whole machine",
        power(meter.power_w),
        meter.coverage_ratio === null
          ? "what the devices draw of it is not known yet"
          : `the devices draw ${percent(meter.coverage_ratio)} of it`,
        plain(`measured by ${meter.meter}, in no other figure`),
      ),
    );
  }
  return h("dl", { class: "figures" }, tiles);
}

/** The energy of a token, or of what else the training code counts. */
function perUnit(work) {
  const known = ["token", "sample", "step"].filter((unit) => work[`energy_per_${unit}_j`] !== null);
  if (!known.length) return [];
  const [first, ...others] = known.map((unit) => [unit, energyEach(work[`energy_per_${unit}_j`])]);
  const details = others.map(([unit, text]) => `${text} a ${unit}`);
  return [tile(`Energy per ${first[0]}`, first[1], ...details, "from the first to the last report")];
}

/** What the whole run will come to, and what is spent of its budgets. */
function outlook({ forecast, budgets }, energy) {
  const tiles = [];
  if (forecast) {
    const { energy_j: joules, emissions_g: grams, end_at_s: end, cost } = forecast;
    const details = [`${mass(grams.expected)} CO₂e, ${range(grams.low, grams.high, mass, grams.expected)}`];
    if (cost) details.push(`${money(cost.expected)} ${plain(forecast.currency)}`);
    details.push(`until ${moment(end.expected)}, ${moment(end.low)} to ${moment(end.high)}`);
    tiles.push(
      tile(
        "Forecast, whole run",
        energy(joules.expected),
        range(joules.low, joules.high, energy, joules.expected),
        ...details,
      ),
    );
  }
  for (const { text, limit, spent, action, reached_at_s: reachedS, reached_by: by } of budgets) {
    const state =
      reachedS === null
        ? `then: ${plain(action)}`
        : `acted upon at ${moment(reachedS)} by its ${by}: ${plain(action)}`;
    tiles.push(tile(`Budget ${plain(text)}`, `${percent(spent === null ? null : spent / limit)} spent`, state));
  }
  return tiles;
}

/** A time of this day by the clock, of another one with its date. */
function moment(atS) {
  const isToday = day(atS) === day(Date.now() / 1000);
  return isToday ? clock(atS, false) : `${day(atS)} ${clock(atS, false)}`;
}

function tile(name, value, ...details) {
  return h(
    "div",
    {},
    h("dt", {}, name),
    h(
      "dd",
      {},
      h("span", { class: "value" }, value),
      details.filter(Boolean).map((detail) => h("span", { class: "detail" }, detail)),
    ),
  );
}

function powerDetail(run) {
  const missing = run.unknown_devices ? `; ${run.unknown_devices} of its devices not known` : "";
  if (run.power_w === null) return `none of its devices is known now`;
  const estimated = run.estimated_power_w;
  const isOfZero = run.power_w === 0 && run.power_known_by !== "measured";
  if (isOfZero) return [mark("estimated"), missing];
  if (!estimated) return [mark("measured"), missing];
  if (estimated >= run.power_w) return [mark("estimated"), missing];
  return [
    mark("measured"),
    ` ${power(run.power_w - estimated)}, `,
    mark("estimated"),
    ` ${power(estimated)}`,
    missing,
  ];
}

/** A range in the unit of what it is the range of. */
function range(low, high, format, amount) {
  if (low === null || high === null) return "range not known";
  const by = [amount ?? high];
  return low === 0 && high === 0 ? "" : `${format(low, by)} to ${format(high, by)}`;
}

function measuredPart({ energy_j: joules, measured_ratio: ratio }) {
  if (joules === null) return "no device of it is metered";
  if (ratio === null) return "nothing drawn";
  if (ratio === 1) return mark("measured");
  return ratio === 0 ? mark("estimated") : [`${percent(ratio)} `, mark("measured")];
}

function intensityDetail({ zone, low_g_per_kwh: low, high_g_per_kwh: high, year }) {
  const where = zone ? plain(zone) : "no zone";
  return `${where}${year ? ` ${year}` : ""}${low < high ? `, ${figure(low)} to ${figure(high)}` : ""}`;
}
