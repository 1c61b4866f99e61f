/* The page: what the reader does with keys, buttons and tabs; and how it begins. */

import {browserZone, chooseClock, entered} from "./clock.js";
import {copy} from "./detail.js";
import * as exceptions from "./exceptions.js";
import {filter, filterSoon, goTo, look, pause, readAddress, resume, scrolled} from "./looking.js";
import {chooseSpan, plotHistory, plotRates, whenGone} from "./plot.js";
import {filters, held, isFiltered} from "./records.js";
import {poll} from "./side.js";
import {reader} from "./state.js";
import {choice, inSight, isWrapped, resize, whenMoved, wrap} from "./table.js";
import {$} from "./words.js";

/* ---- what is kept for the next time ---- */

function recall(key, fallback) {
  try {
    return localStorage.getItem(`collector.${key}`) ?? fallback;
  } catch {
    return fallback;                          // this browser keeps nothing
  }
}

function keep(key, value) {
  try {
    localStorage.setItem(`collector.${key}`, value);
  } catch {
    // Then it is not kept.
  }
}

/* ---- fields and buttons ---- */

for (const form of document.forms) form.onsubmit = event => event.preventDefault();
for (const name in filters) $(name).oninput = filterSoon;
$("pause").onclick = () => reader.paused ? resume() : pause("asked");
$("clock").onchange = () => {
  keep("clock", $("clock").value);
  chooseClock($("clock").value);
};
$("wrap").onclick = () => setWrap(!isWrapped());

function setWrap(isOn) {
  wrap(isOn);
  $("wrap").setAttribute("aria-pressed", isOn);
  keep("wrap", isOn ? "1" : "");
}

$("go").onsubmit = event => {
  event.preventDefault();
  const ms = entered($("at").value), isWrong = Number.isNaN(ms);
  $("at").setAttribute("aria-invalid", isWrong);
  $("at-fault").hidden = !isWrong;
  if (!isWrong) goTo(ms), $("rows").focus();
};
$("at").oninput = () => {
  $("at").removeAttribute("aria-invalid");
  $("at-fault").hidden = true;
};
whenGone(ms => goTo(ms));
whenMoved(plotHistory);

/* ---- tabs ---- */

const TABS = ["records", "exceptions"];

function showTab(name) {
  for (const each of TABS) {
    const tab = $(`${each}-tab`), isOn = each === name;
    tab.setAttribute("aria-selected", isOn);
    tab.tabIndex = isOn ? 0 : -1;
    $(each).hidden = !isOn;
  }
  exceptions.show(name === "exceptions");
  if (name === "records") resize(), plotHistory();
}

for (const name of TABS) $(`${name}-tab`).onclick = () => showTab(name);
$("tabs").onkeydown = event => {
  const at = TABS.findIndex(name => `${name}-tab` === event.target.id), step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (!step || at < 0) return;
  const name = TABS[(at + step + TABS.length) % TABS.length];
  showTab(name);
  $(`${name}-tab`).focus();
  event.preventDefault();
};

function showRecords() {
  showTab("records");
  $("rows").focus();
}

exceptions.whenRecordsAreWanted(showRecords);

/* ---- the table ---- */

$("rows").onscroll = scrolled;
$("rows").onclick = event => {
  const row = event.target.closest(".row");
  if (row?.record && getSelection().isCollapsed) look(choice.opened && row.record === choice.record ? null : row.record, true);
};

function step(by) {
  const records = held.records;
  if (!records.length) return;
  const {first, last} = inSight();
  const index = choice.record ? records.indexOf(choice.record) + by
    : !reader.paused ? records.length - 1 : records.indexOf(by < 0 ? last : first);
  look(records[Math.min(Math.max(index, 0), records.length - 1)], choice.opened);
}

/* The rows of a page, but one. */
function page() {
  const {first, last} = inSight();
  return Math.max(1, held.records.indexOf(last) - held.records.indexOf(first) - 1);
}

/* What a key does in the table; and anywhere but in a field. */
const IN_TABLE = {
  ArrowUp: () => step(-1), ArrowDown: () => step(1), PageUp: () => step(-page()), PageDown: () => step(page()),
  Home: () => held.records.length && look(held.records[0], choice.opened), End: resume,
  Enter: () => choice.record && look(choice.record, !choice.opened),
  c: () => choice.record && copy(choice.record, "text"), j: () => choice.record && copy(choice.record, "JSON"),
};
const ANYWHERE = {
  "/": () => $("text").select(), g: () => $("at").select(), w: () => setWrap(!isWrapped()),
  r: showRecords, e: () => (showTab("exceptions"), $("exceptions-tab").focus()),
};

document.onkeydown = event => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
  const field = event.target.matches("input, select"), isButton = event.target.matches("button, a, [role=slider]");
  const inTable = event.target === $("rows"), does = inTable && IN_TABLE[event.key] || !field && ANYWHERE[event.key];
  if (event.key === "Escape") escape(field ? event.target : null);
  else if (does) does();
  else if (event.key === " " && !field && !isButton) $("pause").click();
  else return;
  event.preventDefault();
};

/* Leave what was entered last: a field's text, the field, the chosen record, the filters. */
function escape(field) {
  if (field?.value && (field.id in filters || field.matches("input"))) {
    field.value = "";
    field.dispatchEvent(new Event("input"));
  } else if (field) {
    $("rows").focus();
  } else if (choice.record) {
    look(null);
    $("rows").focus();                        // a button of the record has gone
  } else if (isFiltered()) {
    for (const name in filters) $(name).value = "";
    filter();
  }
}

/* ---- the beginning ---- */

$("clock").options[0].text = `this browser (${browserZone})`;
$("clock").value = recall("clock", "browser");
chooseClock($("clock").value);
setWrap(recall("wrap", "") === "1");
new ResizeObserver(() => {
  resize();
  plotRates();
  plotHistory();
}).observe($("rows"));
matchMedia("(prefers-color-scheme: dark)").onchange = () => {
  plotRates();
  plotHistory();
};
readAddress();
poll();
chooseSpan("hour");
exceptions.poll();
