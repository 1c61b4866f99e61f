/* The one clock of the page: every time that is shown or entered goes by it. Browser, UTC or server, as chosen.
   Times within the page are milliseconds since 1970. */

const QUARTER = 15 * 60_000, DAY = 86_400_000;      // no zone changes its offset but at a quarter of an hour

let kind = "browser", told = "", server = {name: "", offset_seconds: 0}, ofServer = () => 0;
const offsets = new Map();
const listeners = [];

export const browserZone = new Intl.DateTimeFormat().resolvedOptions().timeZone;

/* Call *listener* whenever times have to be shown anew. */
export const onClock = listener => listeners.push(listener);

export function chooseClock(name) {
  kind = name;
  offsets.clear();
  for (const listener of listeners) listener();
}

/* Take the zone of the server, as /api/stats has it: a name, where the machine has one, and its present offset. */
export function setServerZone(zone) {
  if (told === JSON.stringify(zone)) return;
  told = JSON.stringify(zone);
  server = zone;
  ofServer = () => zone.offset_seconds * 1000;
  try {
    if (zone.name) ofServer = offsetIn(zone.name);
  } catch {
    server = {...zone, name: ""};             // this browser does not know it: its present offset has to do
  }
  chooseClock(kind);
}

function offsetIn(timeZone) {
  const parts = {year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric"};
  const format = new Intl.DateTimeFormat("en-US", {timeZone, hourCycle: "h23", calendar: "gregory", numberingSystem: "latn", ...parts});
  return ms => {
    const at = Object.fromEntries(format.formatToParts(ms).map(({type, value}) => [type, Number(value)]));
    return Date.UTC(at.year, at.month - 1, at.day, at.hour, at.minute, at.second) - Math.floor(ms / 1000) * 1000;
  };
}

function offset(ms) {
  if (kind === "utc" || !Number.isFinite(ms)) return 0;
  const quarter = Math.floor(ms / QUARTER);
  let known = offsets.get(quarter);
  if (known === undefined) {
    if (offsets.size > 10_000) offsets.clear();
    known = kind === "server" ? ofServer(ms) : -new Date(ms).getTimezoneOffset() * 60_000;
    offsets.set(quarter, known);
  }
  return known;
}

/* "2026-11-25T20:55:03.123" by the clock; text of the same length where there is no such time. */
function local(ms) {
  const shifted = new Date(ms + offset(ms));
  return Number.isNaN(shifted.valueOf()) ? "????-??-??T??:??:??.???" : shifted.toISOString().slice(-24, -1);
}

export const dayNumber = ms => Math.floor((ms + offset(ms)) / DAY);
export const date = ms => local(ms).slice(0, 10);
export const seconds = ms => local(ms).slice(11, 19);
export const minutes = ms => local(ms).slice(11, 16);
export const dateTime = ms => `${date(ms)} ${seconds(ms)}`;

const WEEKDAY = new Intl.DateTimeFormat("en-GB", {dateStyle: "full", timeZone: "UTC"});
export const day = ms => Number.isFinite(ms) ? WEEKDAY.format(ms + offset(ms)) : "no date";

/* The time of a record as far as its file has it: files of text have whole seconds, unless told otherwise. */
export const recordTime = record => local(record.ms).slice(11, hasFraction(record) ? 23 : 19);
const hasFraction = record => /\.\d/.test(record.timestamp);
const fraction = record => /\.\d+/.exec(record.timestamp)?.[0] ?? "";

function zoneOffset(ms) {
  const total = Math.abs(offset(ms)) / 60_000, two = n => String(Math.floor(n)).padStart(2, "0");
  return `${offset(ms) < 0 ? "-" : "+"}${two(total / 60)}:${two(total % 60)}`;
}

/* A record's time with its date, all of its digits, and the zone. */
export const fullTime = record => `${dateTime(record.ms)}${fraction(record)} ${zoneOffset(record.ms)}`;

export function zoneWords(ms = Date.now()) {
  if (kind === "utc") return "UTC";
  const name = kind === "browser" ? browserZone : server.name;
  return name && name !== "UTC" ? `${name}, ${zoneOffset(ms)}` : name || `UTC${zoneOffset(ms)}`;
}

/* Milliseconds of what the reader entered, as for `tail --since`, of which moments.py has the rule: "20:55", "1h30m", ...
   Returns NaN for anything else. */

const UNITS = {s: 1_000, m: 60_000, min: 60_000, h: 3_600_000, d: DAY, w: 7 * DAY};
const AGO = /^\d{1,9} ?(?:min|[smhdw])(?: ?\d{1,9} ?(?:min|[smhdw]))*$/, AGO_PART = /(\d{1,9}) ?(min|[smhdw])/g;
const TIME = /^(?:(\d{4}-\d\d-\d\d)|(today|yesterday))?(?:(?:(?<=[\dy])[ t]|^)(\d\d?:\d\d(?::\d\d(?:[.,]\d{1,6})?)?))? ?(z|utc|[+-]\d\d(?::?\d\d)?)?$/;

export function entered(text, now = Date.now()) {
  text = text.trim().toLowerCase();
  if (text === "now") return now;
  if (AGO.test(text)) return Math.max(0, now - [...text.matchAll(AGO_PART)].reduce((sum, [, number, unit]) => sum + number * UNITS[unit], 0));
  const match = TIME.exec(text), ahead = match?.[4] && zoneAhead(match[4]);
  if (!match || !(match[1] || match[2] || match[3]) || Number.isNaN(ahead)) return NaN;
  const [, givenDate, word, given = "00:00", zone] = match, clock = (given[1] === ":" ? "0" : "") + given.replace(",", ".");
  const instant = date => {
    const utc = Date.parse(`${date}T${clock}Z`);
    // A browser takes 24:00, and the 31st of February, for the day after.
    if (Number.isNaN(utc) || isoDate(utc) !== date) return NaN;
    return zone ? utc - ahead : fromLocal(`${date}T${clock}`);
  };
  const today = zone ? isoDate(now + ahead) : date(now), dayBefore = isoDate(Date.parse(today) - DAY);
  if (givenDate || word) return instant(givenDate ?? (word === "today" ? today : dayBefore));
  return instant(today) <= now ? instant(today) : instant(dayBefore);   // the latest one past
}

const isoDate = ms => new Date(ms).toISOString().slice(0, 10);

/* How far a zone's clock is ahead of UTC. */
function zoneAhead(zone) {
  if (zone === "z" || zone === "utc") return 0;
  const minutes = 60 * zone.slice(1, 3) + Number(zone.length > 3 ? zone.slice(-2) : 0);
  return minutes < 24 * 60 ? (zone[0] === "-" ? -minutes : minutes) * 60_000 : NaN;
}

function fromLocal(text) {
  const guess = Date.parse(`${text}Z`);
  return guess - offset(guess - offset(guess));
}
