// Figures and foreign text for people, and the elements that hold them.

export const UNKNOWN = "unknown";
const LONGEST = 300; // characters of a name
const SVG = "http://www.w3.org/2000/svg";

/** About three digits, never in powers of ten. */
export function figure(number) {
  const size = Math.abs(number);
  if (size >= 100 || size === 0) return number.toFixed(0);
  if (size >= 10) return number.toFixed(1);
  if (size >= 1) return number.toFixed(2);
  return size >= 0.0005 ? number.toFixed(3) : "<0.001";
}

/** An amount of money: three digits, however small. */
export function money(amount) {
  const size = Math.abs(amount);
  return size >= 0.1 || size < 1e-9 ? figure(amount) : amount.toFixed(2 - Math.floor(Math.log10(size)));
}

/** An amount in the unit that fits it, or in the one that fits the largest of `others`, as in a column. */
function inUnit(amount, units, others = [amount]) {
  if (amount === null || amount === undefined) return UNKNOWN;
  const largest = Math.max(...others.map((other) => Math.abs(other ?? 0)));
  const [, size, name] = units.find(([least]) => largest >= least);
  return `${figure(amount / size)} ${name}`;
}

const WATT_HOURS = [
  [3.6e9, 3.6e9, "MWh"],
  [3.6e6, 3.6e6, "kWh"],
  [0, 3.6e3, "Wh"],
];
const JOULES = [
  [1e3, 1e3, "kJ"],
  [0, 1, "J"],
];
const LEAST_IN_WATT_HOURS = 3.6e4;
const SMALL_JOULES = [
  [1e3, 1e3, "kJ"],
  [1, 1, "J"],
  [1e-3, 1e-3, "mJ"],
  [1e-6, 1e-6, "µJ"],
  [0, 1e-9, "nJ"],
];
const MASS = [
  [1e6, 1e6, "t"],
  [1e3, 1e3, "kg"],
  [1, 1, "g"],
  [1e-12, 1e-3, "mg"],
  [0, 1, "g"],
];
const POWER = [
  [1e6, 1e6, "MW"],
  [1e3, 1e3, "kW"],
  [0, 1, "W"],
];

/** Writes all energies of the page in watt-hours, or in joules where the largest of them is small. */
export function energyWriter(largestJ) {
  const units = largestJ >= LEAST_IN_WATT_HOURS ? WATT_HOURS : JOULES;
  return (joules, others) => inUnit(joules, units, others);
}

/** The energy of a step or a token, down to a nanojoule. */
export const energyEach = (joules) => inUnit(joules, SMALL_JOULES);
export const mass = (grams, others) => inUnit(grams, MASS, others);
export const power = (watts) => inUnit(watts, POWER);

/** A part that never rounds to all or to nothing. */
export function percent(ratio) {
  if (ratio === null || ratio === undefined) return UNKNOWN;
  if (ratio > 0 && ratio < 0.001) return "<0.1 %";
  if (ratio > 0.999 && ratio < 1) return ">99.9 %";
  return `${(100 * ratio).toFixed(1)} %`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return UNKNOWN;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${String(Math.floor(seconds % 60)).padStart(2, "0")} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${String(minutes % 60).padStart(2, "0")} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

const two = (number) => String(number).padStart(2, "0");

/** A Unix time on the viewer's clock, as HH:MM:SS. */
export function clock(atS, withSeconds = true) {
  const at = new Date(atS * 1000);
  return `${two(at.getHours())}:${two(at.getMinutes())}${withSeconds ? `:${two(at.getSeconds())}` : ""}`;
}

export function day(atS) {
  const at = new Date(atS * 1000);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

const SHORT = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/** A name that somebody else chose, as `core/plain_text.py` shows it: what cannot be printed is escaped. */
export function plain(text) {
  const whole = [...String(text)];
  const shown = whole.slice(0, LONGEST).join("");
  return shown.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, escaped) + (whole.length > LONGEST ? " …" : "");
}

/** A phase for people: what is outside of the named phases is `main` in files and metrics. */
export const UNPHASED = "main";
export const phaseName = (name) => (name === UNPHASED ? "outside phases" : plain(name));

function escaped(character) {
  const code = character.codePointAt(0);
  const [mark, digits] = code < 0x100 ? ["x", 2] : code < 0x10000 ? ["u", 4] : ["U", 8];
  return SHORT[character] ?? `\\${mark}${code.toString(16).padStart(digits, "0")}`;
}

/** An element of HTML with attributes and children; texts among the children never become markup. */
export function h(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function s(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false)
      element.setAttribute(key, value === true ? "" : value);
  }
  element.append(
    ...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** Make a part of the page like a fresh one, changing only what differs: focus and selection stay. */
export function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const olds = [...old.childNodes];
  const news = [...fresh.childNodes];
  news.forEach((node, place) => (place < olds.length ? morph(olds[place], node) : old.append(node)));
  olds.slice(news.length).forEach((node) => node.remove());
}

/** Fill a part of the page with these children. */
export function fill(element, ...children) {
  const fresh = element.cloneNode(false);
  fresh.append(...children.flat(2).filter(Boolean));
  morph(element, fresh);
}
