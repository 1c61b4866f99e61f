/* The table: only the rows in sight are in the document, and they are used again. What is at its top stays there,
   whatever is added or measured above it; while it follows the stream, its end does. */

import {date, day, dayNumber, onClock, recordTime, zoneWords} from "./clock.js";
import {describe, detail} from "./detail.js";
import {goOn, held, hooks, isFiltered, loadNewer, loadOlder, showWaiting, waiting} from "./records.js";
import {reader} from "./state.js";
import {$, button, count, element, levelClass, oneLine, plural, say} from "./words.js";

const ROW_CHARACTERS = 500, WRAPPED_CHARACTERS = 5_000, MARGIN = 2, MOVED_MS = 100;
const COLUMNS = ["date", "time", "level", "logger", "client", "message"];

const place = $("rows"), rows = [];
place.append(detail);

/* The record that is chosen, and whether it is shown whole below its row. */
export const choice = {record: null, opened: false};

let frame = 0, rowHeight = 24, lineHeight = 24, wraps = false, width = 0;
let tops = new Float64Array(1), drawn = [];     // where each record of `drawn` begins, and where the last one ends
let top = {record: null, below: 0}, seenTop = 0; // what is at the top of the table, and how far its row is above that
let seenHeight = 0;                             // of the table, when it was drawn
let sight = {}, moving = 0, onMoved = () => {};

hooks.draw = () => {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    if (!reader.paused || held.stale && !reader.detached) showWaiting();
    render();
  });
};
onClock(() => {
  for (const row of rows) row.record = null;
  if (choice.opened) describe(choice.record);
  hooks.draw();
});

/* ---- where the rows are ---- */

function layOut() {
  const records = held.records;
  if (tops.length < records.length + 1) tops = new Float64Array(2 * records.length + 1);
  let y = lineHeight, before;                    // the first line tells what lies before the oldest record
  for (let index = 0; index < records.length; index++) {
    const record = records[index], today = dayNumber(record.ms);
    record.dayFirst = !Object.is(today, before); // NaN where lines tell no time
    before = today;
    tops[index] = y;
    y += heightOf(record);
    if (choice.opened && record === choice.record) y += detail.offsetHeight;
  }
  tops[records.length] = y;
  drawn = records;
}

function heightOf(record) {
  return wraps && record.tallFor === shape(record) ? record.tall : rowHeight + (record.dayFirst ? lineHeight : 0);
}

/* What the height of a wrapped record depends on, beside its text. */
const shape = record => width * (record.dayFirst ? 2 : 1);

/* The last record that begins at or above *y*. */
function indexAt(y) {
  let low = 0, high = drawn.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (tops[middle] <= y) low = middle; else high = middle - 1;
  }
  return low;
}

function rememberTop() {
  seenTop = place.scrollTop;
  const index = indexAt(seenTop);
  top = {record: drawn[index] ?? null, below: seenTop - (tops[index] ?? 0)};
}

/* Where the table is at its end: the topmost row is whole. */
function endTop() {
  const least = tops[drawn.length] - place.clientHeight;
  return least > 0 ? wholeFrom(least) : 0;
}

/* Where the first record begins that is whole from *y* on; *y* where the last one is higher than the table. */
function wholeFrom(y) {
  const index = indexAt(y), next = tops[index] < y ? index + 1 : index;
  return next < drawn.length ? tops[next] : y;
}

export const atEnd = () => place.scrollTop >= endTop() - 2;
export const isResized = () => place.clientHeight !== seenHeight;

/* ---- drawing ---- */

export function render() {
  if (Math.abs(place.scrollTop - seenTop) > .5) rememberTop();
  if (choice.record && !held.records.includes(choice.record)) Object.assign(choice, {record: null, opened: false});
  detail.hidden = !choice.opened;
  let tries = 4;
  do {
    layOut();
    scroll();
    fillRows();
  } while (measure() && --tries);
  showEdges();
  showCount();
  moved();
  if (reader.paused) {
    if (place.scrollTop < 2 * place.clientHeight) loadOlder();
    if (reader.detached && place.scrollTop > endTop() - 2 * place.clientHeight) loadNewer();
  }
}

function scroll() {
  const end = endTop(), index = reader.paused && top.record ? held.records.indexOf(top.record) : -1;
  $("space").style.height = `${Math.max(tops[drawn.length], end + place.clientHeight)}px`;
  if (!reader.paused) place.scrollTop = end;
  else if (index >= 0) place.scrollTop = tops[index] + top.below;
  seenTop = place.scrollTop;
  seenHeight = place.clientHeight;
}

function fillRows() {
  const size = Math.ceil(place.clientHeight / rowHeight) + 2 * MARGIN + 2;
  while (rows.length < size) rows.push(makeRow());
  while (rows.length > size) rows.pop().remove();
  const first = Math.max(0, indexAt(place.scrollTop) - MARGIN);
  for (let index = first; index < first + size; index++) {
    const row = rows[index % size], record = drawn[index];
    row.hidden = !record;
    row.record === record || fill(row, record);
    if (!record) continue;
    const isChosen = record === choice.record;
    row.style.transform = `translateY(${tops[index]}px)`;
    row.classList.toggle("dated", record.dayFirst);
    say(row.cells[0], record.dayFirst ? day(record.ms) : "");
    row.cells[0].hidden = !record.dayFirst;
    row.setAttribute("aria-rowindex", index + 2);
    row.setAttribute("aria-selected", isChosen);
    row.setAttribute("aria-expanded", isChosen && choice.opened);
    if (isChosen && choice.opened) detail.style.transform = `translateY(${tops[index] + heightOf(record)}px)`;
  }
  const chosen = rows.find(row => !row.hidden && row.record === choice.record);
  if (chosen) place.setAttribute("aria-activedescendant", chosen.id); else place.removeAttribute("aria-activedescendant");
}

function makeRow() {
  const row = element("div");
  row.setAttribute("role", "row");
  row.cells = COLUMNS.map(name => element("span", name));
  for (const cell of row.cells) cell.setAttribute("role", "gridcell");
  row.append(...row.cells);
  row.id = `row-${rows.length}`;
  place.append(row);
  return row;
}

function fill(row, record) {
  row.record = record;
  if (!record) return;
  row.className = `row ${record.note ? "note" : levelClass(record.levelno)}`;
  const message = wraps ? String(record.message).slice(0, WRAPPED_CHARACTERS) : oneLine(record.message, ROW_CHARACTERS);
  const texts = [recordTime(record), record.level ?? "", record.logger ?? "", record.client ?? "", message];
  texts.forEach((text, index) => {
    const cell = row.cells[index + 1];
    cell.textContent = text;
    cell.title = "";
  });
  row.cells[5].classList.toggle("folded", Boolean(record.exception || record.stack));
}

/* Where lines are wrapped, look how high the rows are; return whether one has another height than was thought. */
function measure() {
  let isNew = false;
  if (wraps) {
    for (const row of rows) {
      const record = row.record;
      if (row.hidden || record.tallFor === shape(record)) continue;
      record.tall = row.offsetHeight;
      record.tallFor = shape(record);
      isNew = true;
    }
  }
  return isNew;
}

/* ---- what stands around the rows ---- */

const EDGES = {
  older: {loading: "Loading older records …", begun: "Here the records begin.", more: "Older records are loaded as you scroll back."},
  newer: {loading: "Loading newer records …"},
};
const further = button("Try again", () => goOn(held.older));

function showEdges() {
  const {older, newer} = held;
  const words = older.state === "stopped" ? `Nothing older was found yet: ${older.words}` : EDGES.older[older.state];
  $("older-text").title = words;
  say($("older-text"), drawn.length || !["more", "begun"].includes(older.state) ? words : "");
  further.hidden = older.state !== "stopped";
  place.setAttribute("aria-busy", older.state === "loading" || newer.state === "loading");
  place.classList.toggle("stale", held.stale);
  const first = drawn[indexAt(place.scrollTop)];
  say($("day"), Number.isFinite(first?.ms) ? date(first.ms) : "Time");
  say($("zone"), zoneWords(first?.ms));
  place.setAttribute("aria-rowcount", older.state === "begun" && !reader.detached ? drawn.length + 1 : -1);
}
$("older").append(further);

function showCount() {
  const number = drawn.length, more = held.older.state === "begun" ? "" : "+";
  const text = number ? `${plural(number, "record")} loaded${isFiltered() ? ", all match" : ""}`
    : held.stale ? "Looking …" : isFiltered() ? "No record yet that matches the filters" : "No record yet";
  say($("count"), text.replace(" record", `${number ? more : ""} record`));
  $("empty").hidden = Boolean(number) || held.stale;
  say($("empty"), text);
  const waits = waiting.records.length + waiting.leftOut;
  say($("pause"), !reader.paused ? "Pause" : reader.detached ? `Back to live${waits ? `, ${count(waits)} new` : ""}`
    : waits ? `Resume, ${count(waits)} waiting` : "Resume");
  $("pause").classList.toggle("paused", Boolean(reader.paused));
}

/* A cell that is cut tells all of its text. */
place.onmouseover = ({target}) => {
  const record = target.parentElement?.record;
  if (record) target.title = target.scrollWidth > target.clientWidth ? String(target.matches(".message") ? record.message : target.textContent).slice(0, WRAPPED_CHARACTERS) : "";
};

/* ---- for the others ---- */

/* Call *listener* when other records are in sight, soon after. */
export const whenMoved = listener => { onMoved = listener; };

function moved() {
  const {first, last} = inSight();
  if (first === sight.first && last === sight.last) return;
  sight = {first, last};
  moving ||= setTimeout(() => {
    moving = 0;
    onMoved();
  }, MOVED_MS);
}

/* Choose *record* and show it whole below its row if it is to be *open*; null chooses none. */
export function choose(record, open = false) {
  Object.assign(choice, {record, opened: Boolean(record) && open});
  detail.hidden = !choice.opened;
  if (choice.opened) describe(record);
  render();
  if (record) reveal(record);
}

function reveal(record) {
  const index = held.records.indexOf(record), from = tops[index], to = tops[index + 1];
  if (to > place.scrollTop + place.clientHeight) place.scrollTop = wholeFrom(to - place.clientHeight);
  if (from < place.scrollTop) place.scrollTop = from;
  render();
}

/* Choose *record* and bring it *y* below the top of the table, less what the topmost row needs to be whole. */
export function showAt(record, {y = place.clientHeight / 3, isChosen = true} = {}) {
  Object.assign(choice, {record: isChosen ? record : null, opened: false});
  layOut();
  top = {record: drawn[indexAt(tops[drawn.indexOf(record)] - y)], below: 0};
  seenTop = place.scrollTop;
  render();
}

/* The first record in sight, and the last. */
export function inSight() {
  const last = drawn[indexAt(place.scrollTop + place.clientHeight - 1)];
  return {first: drawn[indexAt(place.scrollTop)], last};
}

export const isWrapped = () => wraps;

export function wrap(isOn) {
  wraps = isOn;
  $("table").classList.toggle("wrap", isOn);
  resize();
}

export function resize() {
  rowHeight = parseFloat(getComputedStyle($("space")).minHeight);
  lineHeight = $("older").offsetHeight;
  width = place.clientWidth;
  for (const row of rows) row.record = undefined;
  render();
}
