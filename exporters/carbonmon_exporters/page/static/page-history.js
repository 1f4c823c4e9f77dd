// Power by device over time: the past from the series of a run, then what was seen while the page is open.

const MOST_SEEN = 600; // 50 minutes of snapshots
const LONGEST_GAP_S = 120; // between two snapshots: longer than any usual --checkpoint

/** Columns of time: { beginS, endS, devices: Map(id → { w, low, high, measured }), phases: Map(name → part) }. */
export class History {
  constructor() {
    this.clear();
  }

  clear() {
    this.past = [];
    this.seen = [];
    this.components = new Map();
    this.damaged = 0;
    this.before = null; // the newest answer that became a column
    this.wasAway = false;
    this.isUnread = true;
  }

  get columns() {
    return [...this.past, ...this.seen];
  }

  /** Whether the series should be read: it was not yet, the page was hidden, or has seen much since. */
  get isDue() {
    return this.isUnread || this.wasAway || this.seen.length > 2 * MOST_SEEN;
  }

  /** There is no series: forget what was seen long ago. */
  shorten() {
    this.isUnread = this.wasAway = false;
    this.seen = this.seen.slice(-MOST_SEEN);
  }

  /** Take the answer of /api/v1/runs/ID/series. */
  load(series) {
    this.past = [];
    this.damaged = series.damaged_lines;
    this.isUnread = this.wasAway = false;
    for (const device of series.devices) this.components.set(device.id, device.component);
    const steps = Math.max(0, ...series.devices.map((device) => device.power_w.length));
    for (let step = 0; step < steps; step += 1) {
      const beginS = series.begin_s + step * series.step_s;
      const column = {
        beginS,
        endS: Math.min(beginS + series.step_s, series.end_s),
        devices: new Map(),
        phases: new Map(),
      };
      for (const device of series.devices) {
        const w = device.power_w[step];
        if (w === null || w === undefined) continue;
        column.devices.set(device.id, {
          w,
          low: device.power_min_w[step],
          high: device.power_max_w[step],
          measured: device.measured_ratio[step] ?? 1,
        });
      }
      for (const phase of series.phases) {
        if (phase.time_ratio[step] > 0) column.phases.set(phase.name, phase.time_ratio[step]);
      }
      this.past.push(column);
    }
    const last = this.past[this.past.length - 1];
    if (!last) return;
    this.seen = this.seen.filter((column) => column.endS > last.endS);
    const [first] = this.seen; // the file's newest rows may still be open
    if (first && first.beginS - last.endS <= LONGEST_GAP_S) first.beginS = last.endS;
  }

  /** Take an answer of /api/v1/now; false if it has nothing new. */
  add(now) {
    const columns = this.seen.length ? this.seen : this.past;
    const last = columns[columns.length - 1];
    if (
      now.state !== "measuring" ||
      (now.run && now.run.state === "ended") ||
      (last && now.at_s <= last.endS)
    )
      return false;
    const isNext = last && !this.wasAway && now.at_s - last.endS <= LONGEST_GAP_S;
    const column = {
      beginS: isNext ? last.endS : now.at_s - now.interval_s,
      endS: now.at_s,
      devices: new Map(),
      phases: new Map(),
    };
    const before = isNext && this.before?.at_s === column.beginS ? this.before : null;
    const took = now.at_s - column.beginS;
    const source = (answer) => answer.run ?? answer.node;
    const joules = new Map(
      (before ? source(before).devices : []).map((device) => [device.id, device.energy_j]),
    );
    this.before = now;
    const known = new Map(now.node.devices.map((device) => [device.id, device]));
    for (const device of (now.run ?? now.node).devices) {
      const whole = known.get(device.id);
      if (whole) this.components.set(device.id, whole.component);
      if (device.power_w === null) continue;
      column.devices.set(device.id, {
        w: joules.has(device.id)
          ? Math.max(0, device.energy_j - joules.get(device.id)) / took
          : device.power_w,
        low: null,
        high: null,
        measured: whole && whole.known_by === "measured" ? 1 : 0,
      });
    }
    if (before?.run && now.run) {
      const spent = new Map(before.run.phases.map((phase) => [phase.name, phase.duration_s]));
      for (const phase of now.run.phases) {
        const part = (phase.duration_s - (spent.get(phase.name) ?? 0)) / took;
        if (part > 0.001) column.phases.set(phase.name, Math.min(1, part));
      }
    } else if (now.run && now.run.phase) column.phases.set(now.run.phase, 1);
    this.seen.push(column);
    return true;
  }
}
