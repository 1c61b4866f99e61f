/* How the reader looks at the records: live, paused, or at another time; and through which filters. */

import {entered} from "./clock.js";
import {detach, filters, held, loadAround, showWaiting, startOver} from "./records.js";
import {reader, showState, trouble} from "./state.js";
import {connect, whenLost} from "./stream.js";
import {atEnd, choice, choose, inSight, isResized, render, showAt} from "./table.js";
import {$} from "./words.js";

const DEBOUNCE_MS = 250;

let debounce = 0, goneTo = NaN;

/* Stand still: "asked" by the reader; "looking", by scrolling back or choosing a record. */
export function pause(why) {
  reader.paused = why;
  showState();
  render();
}

/* Follow the stream again. */
export function resume() {
  Object.assign(choice, {record: null, opened: false});
  goneTo = NaN;
  const isBehind = reader.detached;
  Object.assign(reader, {paused: "", detached: false});
  if (isBehind) goLive();
  else showWaiting();
  writeAddress();
  showState();
  render();
}

function goLive() {
  startOver();
  connect(true);
}

/* Show what lies around a time, and choose the record there that *isWanted*, or else the first one. */
export async function goTo(ms, isWanted) {
  if (!Number.isFinite(ms)) return;
  reader.paused ||= "looking";
  goneTo = ms;
  writeAddress();
  await showAround(ms, isWanted);
}

async function showAround(ms, isWanted = () => false, how = {}) {
  try {
    const found = loadAround(ms, isWanted);
    showState();
    const record = await found;
    if (record) showAt(record, how);
    trouble("history");
  } catch (error) {
    // What is wrong with a filter, the stream tells.
    if (error.name !== "AbortError" && error.status !== 400) trouble("history", error.message);
  }
}

/* Choose a record, which stops the stream so that it stays where it is; null chooses none. */
export function look(record, open = false) {
  if (record && !reader.paused) pause("looking");
  choose(record, open);
  if (!record) followIfAtEnd();
}

export function scrolled() {
  // A table that gets higher is scrolled by the browser, not by the reader.
  if (!reader.paused && !atEnd() && !isResized()) pause("looking");
  else if (!followIfAtEnd()) render();
}

function followIfAtEnd() {
  const isAtPresent = !reader.detached || held.newer.state === "begun";
  if (reader.paused !== "looking" || choice.record || !isAtPresent || !atEnd()) return false;
  resume();
  return true;
}

/* ---- filters, which are in the address ---- */

export function filter() {
  clearTimeout(debounce);
  for (const name in filters) filters[name] = $(name).value.trim();
  writeAddress();
  const {first} = inSight();
  if (!reader.paused) return goLive();
  connect(false);
  showAround(first?.ms ?? Date.now(), undefined, {y: 0, isChosen: false});
}

export function filterSoon() {
  clearTimeout(debounce);
  debounce = setTimeout(filter, DEBOUNCE_MS);
}

export function setFilter(name, value) {
  $(name).value = value;
  filter();
}

/* Set a filter to *value*, or to nothing if it has that already. */
export const toggleFilter = (name, value) => setFilter(name, filters[name] === value ? "" : value);

function writeAddress() {
  const at = Number.isNaN(goneTo) ? "" : new Date(goneTo).toISOString();
  const parts = String(new URLSearchParams(Object.entries({...filters, at}).filter(([, value]) => value)));
  history.replaceState(null, "", parts ? `#${parts}` : location.pathname);
}

/* Look as the address says: at the beginning, and whenever another one is entered. */
export function readAddress() {
  const parts = new URLSearchParams(location.hash.slice(1)), at = entered(parts.get("at") ?? "");
  for (const name in filters) filters[name] = $(name).value = parts.get(name) ?? "";
  if (Number.isNaN(at)) {
    reader.detached = true;                   // whatever is shown now is not what was asked for
    resume();
  } else {
    connect(false);
    goTo(at);
  }
}

window.onhashchange = readAddress;            // not called for what writeAddress() does

whenLost(() => {
  // What comes meanwhile is in the files: it is there when the stream begins with history again.
  if (reader.paused) detach();
  else startOver();
  showState();
  return !reader.paused;
});
