/* The state at the side and in the header, asked for every other second; rates are made from two answers. */

import {ask} from "./api.js";
import {setServerZone} from "./clock.js";
import {toggleFilter} from "./looking.js";
import {byLevel, plotRates, SAMPLE_MS} from "./plot.js";
import {filters} from "./records.js";
import {tell, trouble} from "./state.js";
import {$, bytes, count, duration, element, LEVELS, nameClass, plural, rate, say} from "./words.js";

const HIDDEN_MS = 10_000;
const MAX_LOGGERS = 100, MAX_CLIENTS = 1_000;                      // longest answers of the API

/* Return a function that takes counters by name and returns their rates since the last time. */
function makeRates(limit = Infinity) {
  let before = null, at = 0;
  return counters => {
    const now = performance.now(), result = new Map();
    for (const [name, value] of before ? counters : []) {
      // What is new in an answer that is not full began at nothing.
      const earlier = before.get(name) ?? (before.size < limit ? 0 : value);
      result.set(name, Math.max(0, value - earlier) / (now - at) * 1000);
    }
    before = counters;
    at = now;
    return result;
  };
}

const levelRates = makeRates(), forwardRates = makeRates(0), loggerRates = makeRates(MAX_LOGGERS), clientRates = makeRates(MAX_CLIENTS);

export async function poll() {
  try {
    const [stats, {loggers}, clients] = await Promise.all(["stats", "loggers", "clients"].map(what => ask(what)));
    trouble("answer");
    showStats(stats);
    const rates = loggerRates(new Map(loggers.map(logger => [logger.name, logger.records])));
    list("loggers", loggers.map(logger => [logger.name, rate(rates.get(logger.name)), count(logger.records)]),
      {click: name => toggleFilter("logger", name), isOn: name => name === filters.logger});
    $("names").replaceChildren(...loggers.map(logger => new Option(logger.name)));
    showClients(clients);
  } catch (error) {
    trouble("answer", error.message);
  }
  setTimeout(poll, document.hidden ? HIDDEN_MS : SAMPLE_MS);
}

function showStats(stats) {
  setServerZone(stats.zone);
  trouble("health", stats.draining ? "The collector is stopping." : stats.healthy ? "" : `Not well: ${stats.reason}`);
  const levels = new Map(Object.entries(stats.levels)), rates = levelRates(levels);
  const order = [...levels.keys()].sort(byLevel);
  list("levels", order.map(name => [name, rate(rates.get(name)), count(levels.get(name))]),
    {click: name => toggleFilter("level", name), isOn: name => name === filters.level, can: name => name in LEVELS});
  [...$("levels").rows].forEach((row, index) => { row.cells[0].className = `level ${nameClass(order[index])}`; });
  const total = [...rates.values()].reduce((sum, value) => sum + value, 0);
  const perSecond = rates.size || !levels.size ? total : undefined;
  plotRates(rates.size ? order.map(name => [nameClass(name), rates.get(name)]) : null);
  tell(stats.host, perSecond);
  say($("rate"), `${rate(perSecond)} records/s, ${plural(stats.clients.now, "client")}`);
  say($("uptime"), `version ${stats.version}, up ${duration(stats.uptime_seconds)}`);
  showDisk(stats);
  showForwards(stats);
}

/* Whether a file's error means that its volume has no room for it, whatever the volume says is free. */
const isFull = ({error}) => /no space|quota/i.test(error);
const isIn = (directory, {path}) => path.startsWith(directory.endsWith("/") ? directory : `${directory}/`);

function showDisk({reserve, records, files, volumes, clients}) {
  $("reserve").value = reserve.bytes / reserve.limit_bytes;
  say($("reserve-text"), `Reserve: ${bytes(reserve.bytes)} of ${bytes(reserve.limit_bytes)}`
    + (reserve.oldest_seconds >= 1 ? `, the oldest ${duration(reserve.oldest_seconds)}` : ""));
  const lines = [];
  for (const {path, error, records} of files.failing) lines.push(["error", `${path}: ${error}; ${plural(records, "record")} ${records === 1 ? "waits" : "wait"}`]);
  for (const [reason, number] of Object.entries(records.dropped)) {
    // What is below the level was not wanted; all else was lost.
    if (number) lines.push([reason === "level" ? "" : "error", `${plural(number, "record")} dropped: ${reason}`]);
  }
  for (const [reason, number] of Object.entries(clients.refused)) if (number) lines.push(["", `${plural(number, "client")} refused: ${reason}`]);
  if (records.quarantined) lines.push(["error", `${plural(records.quarantined, "frame")} in quarantine`]);
  if (reserve.not_reading_seconds) lines.push(["error", `not reading for ${duration(reserve.not_reading_seconds)} in all`]);
  lines.push(["", `${plural(records.written, "record")} written, ${plural(files.open, "file")} open`]);
  $("disk").replaceChildren(...volumes.flatMap(({directory, free_bytes, total_bytes}) => {
    // A quota, or blocks kept for root, can refuse what the volume says is free: then the error is what counts.
    const full = files.failing.find(file => isFull(file) && isIn(directory, file));
    const words = full ? `${directory}: full (${full.error}), of ${bytes(total_bytes)}`
      : `${directory}: ${bytes(free_bytes)} free of ${bytes(total_bytes)}`;
    const used = element("meter");
    Object.assign(used, {max: total_bytes || 1, high: .9 * total_bytes, low: .75 * total_bytes, optimum: 0, value: full ? total_bytes : total_bytes - free_bytes});
    used.setAttribute("aria-label", `Used of ${directory}`);
    return [element("p", full ? "error" : "", words), used];
  }), ...lines.map(([kind, text]) => element("p", kind, text)));
}

function showForwards({spool, forwards = []}) {
  $("handing-over").hidden = !forwards.length;
  if (!forwards.length) return;
  const begun = forwards.filter(({shipped}) => shipped !== undefined);
  const rates = forwardRates(new Map(begun.map(({name, shipped}) => [name, shipped])));
  list("forwards", forwards.map(({name, waiting}) => [name, rate(rates.get(name)), waiting === undefined ? "…" : count(waiting)]));
  const lines = [];
  for (const {name, up, waiting, lag_seconds, held, dead = {}, dropped} of forwards) {
    if (!up) lines.push(["error", `${name}: does not run`]);
    if (held) lines.push(["error", `${name}: holds for ${duration(held.seconds)}: ${held.text}`]);
    if (waiting && lag_seconds >= 2) lines.push(["", `${name}: the oldest has waited for ${duration(lag_seconds)}`]);
    for (const [reason, number] of Object.entries(dead)) lines.push(["error", `${name}: ${plural(number, "dead letter")}: ${reason}`]);
    if (dropped) lines.push(["error", `${name}: ${plural(dropped, "record")} dropped`]);
  }
  lines.push(["", `spool: ${bytes(spool.bytes)} of ${bytes(spool.max_bytes)}`]);
  if (spool.write_errors) lines.push(["error", `spool: ${plural(spool.write_errors, "write error")}`]);
  $("forward-lines").replaceChildren(...lines.map(([kind, text]) => element("p", kind, text)));
}

function showClients({clients, total}) {
  const rates = clientRates(new Map(clients.map(client => [client.peer, client.records])));
  say($("clients-head"), clients.length < total ? `Clients, ${count(clients.length)} of ${count(total)}` : "Clients");
  list("clients", clients.map(({peer, records, reading}) => [peer, reading ? rate(rates.get(peer)) : "not read", count(records)]));
}

/* Fill a table's body with rows of text, using the rows it has; with *click* the first cells are buttons that call
   it, pressed where *isOn*, except where a name *can* not be chosen. */
function list(id, lines, {click = null, isOn = () => false, can = () => true} = {}) {
  const body = $(id);
  while (body.rows.length > lines.length) body.deleteRow(-1);
  lines.forEach((texts, index) => {
    let row = body.rows[index];
    if (!row) {
      row = body.insertRow();
      row.append(...texts.map(() => element("td")));
      if (click) {
        const button = element("button");
        button.onclick = () => click(button.textContent);
        row.cells[0].append(button);
      }
    }
    texts.forEach((text, column) => {
      const place = row.cells[column].firstElementChild ?? row.cells[column];
      if (place.textContent !== text) place.textContent = place.title = text;
    });
    if (click) {
      row.cells[0].firstElementChild.disabled = !can(texts[0]);
      row.cells[0].firstElementChild.setAttribute("aria-pressed", isOn(texts[0]));
    }
  });
}
