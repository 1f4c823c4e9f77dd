// Asks the monitor each two seconds while the page is looked at, and shows what it answers.

import { chart, columnAt, COMPONENTS, layersOf, phaseClass, phasesOf, swatch, watts } from "/page-chart.js";
import { History } from "/page-history.js";
import { deviceTable, phaseTable, plotTable, runTable, sensorTable } from "/page-tables.js";
import { figures, mark, powerName, runHead } from "/page-figures.js";
import { clock, duration, energyWriter, fill, h, phaseName, plain, power, UNPHASED } from "/page-text.js";

const PERIOD_MS = 2000; // a snapshot is 5 s old at most unless --checkpoint says otherwise
const AGAIN_MS = 500; // after a first failure: it may have been one connection
const LONGEST_PERIOD_MS = 10000;
const PATIENCE_MS = 10000; // the monitor gives an answer 5 s
const RUNS_EACH = 5; // looks at the node between two at its runs
const STALE_S = 120; // without a new snapshot: longer than any usual --checkpoint

const at = (id) => document.getElementById(id);
const history = new History();
const asked = new URLSearchParams(location.search).get("run") ?? "";
let shownId = null;
let shownRuns = "";
let newest = null;
let listed = [];
let isGone = false;
let changedMs = 0;
let pastDueMs = 0;
let failures = 0;
let polls = 0;
let timer = 0;
let isAsking = false;
let reading = null;

async function ask(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(PATIENCE_MS), cache: "no-store" }).catch(
    () => {
      throw Object.assign(new Error("no answer"), { isGone: true });
    },
  );
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(body.error ?? answer.statusText), { status: answer.status });
  return body;
}

async function poll() {
  if (isAsking || document.hidden) return;
  isAsking = true;
  try {
    const now = await ask(`/api/v1/now${asked ? `?run=${encodeURIComponent(asked)}` : ""}`);
    failures = 0;
    if (now.state === "ended") sayEnded(now);
    else await show(now);
  } catch (error) {
    failures += 1;
    sayGone(error);
  } finally {
    isAsking = false;
    clearTimeout(timer);
    if (!document.hidden)
      timer = setTimeout(poll, [PERIOD_MS, AGAIN_MS, PERIOD_MS][failures] ?? LONGEST_PERIOD_MS);
  }
}

async function show(now) {
  const isNew =
    !newest || now.at_s !== newest.at_s || now.state !== newest.state || now.run?.id !== newest.run?.id;
  if (isNew) changedMs = performance.now();
  newest = now;
  const wasGone = isGone;
  isGone = false;
  const id = now.run?.id ?? "";
  const isOther = id !== shownId;
  if (isOther) {
    shownId = id;
    history.clear();
    pastDueMs = 0;
    reading = null;
  }
  const hasMore = history.add(now);
  sayLive(now);
  if (isNew || isOther || wasGone) {
    fill(at("run"), ...runHead(now), figures(now, energyOf(now), isGone));
    fill(at("sensors"), ...sensorTable(now));
    drawPower(hasMore);
    fill(at("host"), plain(now.host));
    fill(
      at("version"),
      `carbonmon ${plain(now.version)} · a sample each ${now.interval_s} s · times are this browser's`,
    );
    document.title = `${now.run ? `${plain(now.run.name || id)} · ` : ""}carbonmon`;
  }
  if (history.isDue && performance.now() >= pastDueMs) await loadPast(id);
  if (now.runs.running + now.runs.ended > 1) {
    const counts = `${now.runs.running} ${now.runs.ended}`;
    if (isOther || counts !== shownRuns || polls % RUNS_EACH === 0 || wasGone) {
      listed = (await ask("/api/v1/runs")).runs;
      drawRuns();
    }
    shownRuns = counts;
  } else {
    listed = [];
    fill(at("runs"));
  }
  polls += 1;
}

/** Energies are written in one unit system, by the largest one of the page. */
function energyOf({ run, node }) {
  const ofRuns = listed.map((each) => each.energy_j);
  const joules = [run?.energy_j, run?.forecast?.energy_j.expected, node.energy_j, ...ofRuns];
  return energyWriter(Math.max(...joules.map((each) => each ?? 0)));
}

function drawRuns() {
  fill(at("runs"), ...runTable(listed, shownId, energyOf(newest), powerName(newest, isGone)));
}

/** What was seen last stays, but is none of now. */
function showGone() {
  document.body.classList.add("gone");
  if (!newest || isGone) return;
  isGone = true;
  fill(at("run"), ...runHead(newest), figures(newest, energyOf(newest), isGone));
  drawPower(false);
  if (listed.length) drawRuns();
}

async function loadPast(id) {
  pastDueMs = performance.now() + LONGEST_PERIOD_MS; // when it is asked for again, if it is not had now
  try {
    if (id) history.load(await ask(`/api/v1/runs/${encodeURIComponent(id)}/series`));
    else history.shorten();
  } catch (error) {
    if (error.status !== 404) throw error;
    history.shorten(); // no series yet, or none is kept: what is seen from now on is drawn
  }
  drawPower(true);
}

function drawPower(isChanged) {
  const energy = energyOf(newest);
  fill(at("devices"), ...deviceTable(newest, history, energy, isGone));
  fill(at("phases"), ...phaseTable(newest.run, history, energy));
  at("power").hidden = false;
  const columns = history.columns;
  const has = columns.some((column) => column.devices.size);
  for (const id of ["scrub", "legend", "power-table"]) at(id).hidden = !has;
  const left = history.damaged ? ` ${history.damaged} damaged lines of the series are left out.` : "";
  const whose = newest.run
    ? "What the run was charged, before the PUE."
    : "What this node's devices draw, since the page was opened.";
  fill(
    at("power-note"),
    has
      ? `${whose}${left}`
      : `No power is known yet: the first readings of the sensors are drawn here.${left}`,
  );
  if (!has) {
    fill(at("plot"));
    return;
  }
  const isAtEnd = reading === null;
  const time = at("time");
  time.max = columns.length - 1;
  if (isAtEnd) time.value = columns.length - 1;
  if (isChanged) drawLegend(columns);
  drawPlot();
}

function drawPlot() {
  const columns = history.columns;
  if (!columns.some((column) => column.devices.size)) return;
  const place = Math.min(reading ?? columns.length - 1, columns.length - 1);
  const column = columns[place];
  const total = column.devices.size ? [...column.devices.values()].reduce((sum, { w }) => sum + w, 0) : null;
  const most = columns.reduce(
    (high, one) =>
      Math.max(
        high,
        [...one.devices.values()].reduce((sum, { w }) => sum + w, 0),
      ),
    0,
  );
  const label = `Power from ${clock(columns[0].beginS)} to ${clock(columns[columns.length - 1].endS)}, at most ${power(most)}; the table below has its figures`;
  fill(at("plot"), chart(history, at("plot").clientWidth || 600, reading === null ? -1 : place, label));
  const phases = phasesOf([column])
    .map((name) => (name === UNPHASED ? phaseName(name) : `phase ${phaseName(name)}`))
    .join(", ");
  const text = `${clock(column.endS)}: ${total === null ? "power not known" : power(total)}${phases ? `, ${phases}` : ""}`;
  at("reading").textContent = text;
  at("time").setAttribute("aria-valuetext", text);
}

function drawLegend(columns) {
  const layers = layersOf(history);
  const phases = phasesOf(columns);
  fill(
    at("legend"),
    h(
      "ul",
      {},
      layers.map(([component, isEstimated]) =>
        h(
          "li",
          {},
          swatch(component, isEstimated),
          ` ${COMPONENTS.get(component)}, `,
          mark(isEstimated ? "estimated" : "measured"),
        ),
      ),
    ),
    h(
      "ul",
      { "aria-label": "Phases, in the strip below the plot" },
      phases
        .slice(0, 12)
        .map((name) =>
          h(
            "li",
            {},
            h("span", { class: `square ${phaseClass(phases, name)}`, "aria-hidden": "true" }),
            phaseName(name),
          ),
        ),
    ),
  );
  if (at("power-table").open) fillTable();
}

function fillTable() {
  fill(at("power-table").querySelector(".wide"), plotTable(history, layersOf(history), watts).firstChild);
}

function sayLive(now) {
  const since = (performance.now() - changedMs) / 1000;
  if (now.state === "starting") say("warn", "The monitor has taken no sample yet.");
  else if (since > Math.max(STALE_S, 5 * now.interval_s))
    say(
      "warn",
      `The monitor answers, but its last sample is of ${clock(now.at_s)}, ${duration(since)} ago: a sensor or the disk may hang.`,
    );
  else say("live", `Live, last sample ${clock(now.at_s)}.`);
  document.body.classList.remove("gone");
}

function sayEnded(now) {
  const ids = now.ended.map(plain).join(", ");
  say(
    "warn",
    `The monitor has ended with its run (${ids}). ${newest ? "Below is what this page saw last" : "There is nothing to show any more"}; carbonmon report has the final figures.`,
  );
  showGone();
}

function sayGone(error) {
  if (error.status === 429 || error.status === 503)
    say("warn", "Too many look at this monitor: it answers others first, and this page asks again.");
  else if (error.status) say("warn", plain(error.message));
  else if (!error.isGone) {
    console.error(error);
    say("warn", `This page has failed: ${plain(error.message)}. The figures are at /api/v1/now.`);
  } else if (failures > 1 || !newest) {
    const last = newest ? ` Below is what was known at ${clock(newest.at_s)}.` : "";
    say(
      "warn",
      `No answer: the monitor has ended with its run, was stopped, or cannot be reached.${last} carbonmon report prints the final figures.`,
    );
  }
  if (error.isGone && (failures > 1 || !newest)) showGone();
}

function say(kind, text) {
  const status = at("status");
  status.className = kind;
  const isLive = kind === "live";
  status.setAttribute("aria-live", isLive ? "off" : "polite"); // a clock is not read out each few seconds
  if (status.textContent !== text) status.textContent = text;
}

at("time").addEventListener("input", () => {
  const place = Number(at("time").value);
  reading = place >= history.columns.length - 1 ? null : place;
  drawPlot();
});
at("plot").addEventListener("pointermove", (event) => {
  const columns = history.columns;
  if (!columns.length) return;
  reading = columnAt(
    columns,
    at("plot").clientWidth,
    event.clientX - at("plot").getBoundingClientRect().left,
  );
  at("time").value = reading;
  drawPlot();
});
at("plot").addEventListener("pointerleave", () => {
  reading = null;
  at("time").value = at("time").max;
  drawPlot();
});
at("power-table").addEventListener("toggle", () => newest && fillTable());
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  history.wasAway = true;
  pastDueMs = 0;
  poll();
});
new ResizeObserver(() => newest && drawPlot()).observe(at("plot"));
poll();
