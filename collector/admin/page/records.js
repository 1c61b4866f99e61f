/* The records that the page holds: a window on what the files have, oldest first. Older ones are asked for at its
   beginning; newer ones come from the stream while it is joined to that, and are asked for while it is not. It is
   bounded: what is added at one end goes at the other. */

import {ask} from "./api.js";
import {reader, showState} from "./state.js";

const MAX_RECORDS = 10_000, MAX_CHARACTERS = 64 * 1024 * 1024;
const PAGE = 1_000, AROUND = 200;             // records asked for at once: beyond an end, and on each side of a time
const QUERY_MS = 60_000, BUSY_SECONDS = 2;

/* "more": there may be some; "loading"; "begun": there are none; "stopped": they were not found in time. */
const edge = () => ({state: "more", words: "", cursor: "", retry: 0});

export const held = {
  records: [],
  older: edge(), newer: edge(),
  stale: false,                               // what is shown is from before the filters; the next records replace it
};
export const waiting = {records: [], characters: 0, leftOut: 0};
export const filters = {level: "", logger: "", text: "", regex: ""};

/* Called whenever there is something to be drawn; the table sets it. */
export const hooks = {draw() {}};

let characters = 0, number = 0, queries = new AbortController();

export const filterQuery = more => new URLSearchParams(Object.entries({...filters, ...more}).filter(([, value]) => value));
export const isFiltered = () => Object.values(filters).some(Boolean);

/* Give a record what the page needs of it, beside what came. */
function accept(record) {
  record.ms = Date.parse(record.timestamp);
  record.number = number++;
  record.size = 300 + String(record.message ?? "").length + (record.exception?.length ?? 0) + (record.stack?.length ?? 0)
    + (record.extra ? JSON.stringify(record.extra).length : 0);
  return record;
}

/* ---- from the stream ---- */

export function take(record) {
  if (reader.detached) {
    number++;
    waiting.leftOut++;
    return hooks.draw();
  }
  waiting.records.push(accept(record));
  waiting.characters += record.size;
  // Not with every record, for each time costs the length of the list; and here, for hidden pages have no frames.
  if (waiting.records.length >= 2 * MAX_RECORDS || waiting.characters > 2 * MAX_CHARACTERS) trimWaiting();
  hooks.draw();
}

export const note = text => take({note: true, message: text, timestamp: new Date().toISOString()});

function trimWaiting() {
  let drop = 0;
  while (waiting.records.length - drop > MAX_RECORDS || waiting.characters > MAX_CHARACTERS) {
    waiting.characters -= waiting.records[drop++].size;
  }
  waiting.records.splice(0, drop);
  waiting.leftOut += drop;
}

/* Show what waits. */
export function showWaiting() {
  trimWaiting();
  const {records, leftOut} = waiting;
  if (held.stale && records.length) empty();
  if (leftOut) {
    // There is a gap before them, which scrolling back fills.
    empty();
    held.older = edge();
  }
  Object.assign(waiting, {records: [], characters: 0, leftOut: 0});
  append(records);
}

/* ---- the two ends ---- */

function empty() {
  held.records = [];
  held.stale = false;
  characters = 0;
}

function append(records) {
  for (const record of records) {
    held.records.push(record);
    characters += record.size;
  }
  let drop = 0;
  while (isTooMuch(held.records.length - drop)) characters -= held.records[drop++].size;
  if (drop) {
    held.records.splice(0, drop);
    held.older = edge();
  }
}

function prepend(records) {
  for (const record of records) characters += record.size;
  held.records = [...records, ...held.records];
  let drop = 0;
  while (isTooMuch(held.records.length)) characters -= held.records.pop().size, drop++;
  if (drop) {
    held.newer = edge();
    detach();
  }
}

const isTooMuch = length => length > MAX_RECORDS || characters > MAX_CHARACTERS && length > 1;

/* Stop being joined to the stream: from here on what it sends is only counted. */
export function detach() {
  reader.detached = true;
  showState();
  waiting.leftOut += waiting.records.length;
  waiting.records = [];
  waiting.characters = 0;
}

/* Begin anew: what is held stays in sight, dimmed, until there is something to take its place. */
export function startOver() {
  queries.abort();
  queries = new AbortController();
  held.stale = true;
  held.older = edge();
  held.newer = edge();
  Object.assign(waiting, {records: [], characters: 0, leftOut: 0});
  hooks.draw();
}

/* The stream has told all that it begins with: *found* records of history of the *limit* that it was asked for. */
export function historyCame(answer, found, limit) {
  finish(held.older, answer, found, limit);
  if (!found && held.stale) empty();           // there is nothing to take the place of what was held
  hooks.draw();
}

/* ---- history ---- */

export const loadOlder = () => load("older", "before", records => prepend(records));
export const loadNewer = () => load("newer", "after", records => append(records));

const isRecord = record => !record.note;

async function load(name, side, put) {
  const end = held[name];
  const outermost = name === "older" ? held.records.find(isRecord) : held.records.findLast(isRecord);
  if (end.state !== "more" || held.stale || !outermost && !end.cursor) return;
  end.state = "loading";
  try {
    const answer = await query({[side]: end.cursor || position(outermost, side)}, PAGE);
    // What is held may have got another end meanwhile.
    if (held[name] !== end) return;
    const found = end.cursor || outermost.cursor ? answer.records : withoutHeld(answer.records, outermost);
    finish(end, answer, answer.records.length, PAGE);
    put(found.reverse());
  } catch (error) {
    refuse(end, error);
  }
  hooks.draw();
}

/* Ask for records beside a place, through the filters; `records` come newest first. */
async function query(where, limit) {
  const answer = await ask(`records?${filterQuery({...where, limit})}`, {signal: queries.signal, timeout: QUERY_MS});
  answer.records.forEach(accept);
  return answer;
}

/* Take how a question ended that found so many records of the *limit* that it was asked for. One that has stopped
   early, at some MB of records for instance, goes on by itself as long as it finds any. */
function finish(end, {cursor, complete, why}, found, limit) {
  end.cursor = cursor;
  end.words = why;
  end.state = found >= limit || found && !complete ? "more" : complete ? "begun" : "stopped";
}

function refuse(end, error) {
  if (error.name === "AbortError") return;
  end.state = "stopped";
  end.words = error.message;
  if (error.status !== 503) return;
  clearTimeout(end.retry);
  end.retry = setTimeout(() => goOn(end), 1000 * (error.seconds || BUSY_SECONDS));
}

/* Ask on where the last question at this end stopped. */
export function goOn(end) {
  if (end.state === "stopped") end.state = "more";
  hooks.draw();
}

/* Records of the stream have no cursor, and files may keep whole seconds only: ask with a second to spare. */
const wholeSecond = ms => Math.floor(ms / 1000) * 1000;

function position(record, side) {
  if (record.cursor) return record.cursor;
  return new Date(side === "before" ? wholeSecond(record.ms) + 1000 : wholeSecond(record.ms) - 1).toISOString();
}

/* Return those of *found* that are not held, as far as that can be told by what they say in the same second. */
function withoutHeld(found, beside) {
  const second = wholeSecond(beside.ms), known = new Map();
  const key = record => `${record.levelno}\0${record.logger}\0${record.message}`;
  const isThen = record => wholeSecond(record.ms) === second;
  for (const record of held.records) if (isThen(record)) known.set(key(record), 1 + (known.get(key(record)) ?? 0));
  return found.filter(record => {
    const left = isThen(record) && known.get(key(record));
    if (left) known.set(key(record), left - 1);
    return !left;
  });
}

/* Hold what lies around a time; return the last record that *isWanted*; if there is none, the first one at or after
   the time, or else the last one before it. */
export async function loadAround(ms, isWanted) {
  startOver();
  detach();
  const mine = queries, at = new Date(ms).toISOString();
  // A record of the time itself belongs to what comes after.
  const before = query({before: at}, AROUND), after = query({after: new Date(ms - 1).toISOString()}, AROUND);
  try {
    const [olderOnes, newerOnes] = await Promise.all([before, after]);
    if (mine !== queries) return null;
    empty();
    finish(held.older, olderOnes, olderOnes.records.length, AROUND);
    finish(held.newer, newerOnes, newerOnes.records.length, AROUND);
    append([...olderOnes.records.filter(record => record.ms < ms).reverse(), ...newerOnes.records.filter(record => record.ms >= ms).reverse()]);
    return held.records.findLast(isWanted) ?? held.records.find(record => record.ms >= ms) ?? held.records.at(-1) ?? null;
  } finally {
    hooks.draw();
  }
}
