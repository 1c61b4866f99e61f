/* Two plots by level: records a second of the last minutes, and records of the last hour, day or week. */

import {ask} from "./api.js";
import {date, dateTime, dayNumber, minutes, onClock} from "./clock.js";
import {trouble} from "./state.js";
import {inSight} from "./table.js";
import {$, count, duration, LEVELS, nameClass, plural, rate, say} from "./words.js";

/* Highest level first: it stands at the bottom of each bar, where it is compared best. */
export const byLevel = (a, b) => (LEVELS[b] ?? 0) - (LEVELS[a] ?? 0) || (a < b ? -1 : 1);

/* Fit a canvas to its place; return what is needed to draw on it in CSS pixels. */
function prepare(canvas) {
  const scale = devicePixelRatio, width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const context = canvas.getContext("2d"), style = getComputedStyle(canvas);
  context.scale(scale, scale);
  context.font = "11px system-ui, sans-serif";
  return {context, width, height, colour: name => style.getPropertyValue(`--${name}`)};
}

/* Draw one bar of [kind, value]s from *x*; each that is not nothing can be seen. */
function bar({context, colour}, parts, x, wide, y, scale) {
  for (const [kind, value] of parts) {
    if (!value) continue;
    const tall = Math.max(1.5, value * scale);
    context.fillStyle = colour(kind);
    context.fillRect(x, y -= tall, wide, tall);
  }
}

/* ---- records a second ---- */

export const SAMPLE_MS = 2_000;
const SAMPLES = 90;
const samples = [];

/* Take one more *sample*: pairs of a level's class and its rate; null adds none. */
export function plotRates(sample = null) {
  if (sample) samples.push(sample);
  samples.splice(0, samples.length - SAMPLES);
  const canvas = $("rates"), ground = prepare(canvas), {context, width, height, colour} = ground;
  const sums = samples.map(parts => parts.reduce((sum, [, value]) => sum + value, 0)), highest = Math.max(0, ...sums);
  const step = width / SAMPLES, words = highest ? `${rate(highest)}/s` : "-";
  samples.forEach((parts, index) => {
    bar(ground, parts, (SAMPLES - samples.length + index) * step, Math.max(1, step - 1), height, (height - 18) / Math.max(1, highest));
  });
  context.fillStyle = colour("faint");
  context.fillText(`highest ${words} in the last ${duration(SAMPLES * SAMPLE_MS / 1000)}`, 4, 12);
  canvas.setAttribute("aria-label", `Records per second by level: now ${rate(sums.at(-1))}, highest ${words}`);
}

/* ---- the last hour, day or week; a click or Enter goes there ---- */

const SPANS = {hour: 3_600, day: 86_400, week: 7 * 86_400}, POLL_MS = 5_000, AXIS = 16;
const TICKS = [60, 300, 600, 900, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400, 2 * 86_400];

let span = "hour", counts = null, at = -1, timer = 0, askedFor = 0, go = () => {};

/* Call *listener* with the time, in milliseconds, that the reader goes to. */
export const whenGone = listener => { go = listener; };

const canvas = $("history"), parts = () => Object.keys(counts.levels).sort(byLevel);
const columns = () => Math.max(0, ...Object.values(counts.levels).map(each => each.length));
const sumAt = index => Object.values(counts.levels).reduce((sum, each) => sum + (each[index] ?? 0), 0);
const timeAt = index => (counts.from + index * counts.step) * 1000;

export function chooseSpan(name) {
  span = name;
  for (const each of $("spans").children) each.setAttribute("aria-pressed", each.value === name);
  at = -1;
  poll();
}

async function poll() {
  clearTimeout(timer);
  const mine = ++askedFor, now = Date.now() / 1000;
  try {
    const answer = await ask(`counts?from=${Math.floor(now - SPANS[span])}&to=${Math.ceil(now)}`);
    if (mine !== askedFor) return;
    counts = {...answer, begin: now - SPANS[span], end: now};
    plotHistory();
  } catch (error) {
    trouble("answer", error.message);       // which the next answer, of whatever, takes back
  }
  if (mine === askedFor) timer = setTimeout(poll, document.hidden ? 12 * POLL_MS : POLL_MS);
}

export function plotHistory() {
  if (!counts || !canvas.clientWidth) return;
  const ground = prepare(canvas), {context, width, height, colour} = ground, number = columns();
  const x = seconds => (seconds - counts.begin) / (counts.end - counts.begin) * width;
  const floor = height - AXIS, wide = Math.max(1, x(counts.begin + counts.step) - (counts.step / (counts.end - counts.begin) * width > 3 ? 1 : 0));
  const highest = Math.max(1, ...Array.from({length: number}, (_, index) => sumAt(index))), levels = parts();
  drawAxis(ground, x, floor);
  for (let index = 0; index < number; index++) {
    const from = x(counts.from + index * counts.step);
    if (index === at) {
      context.fillStyle = colour("chosen");
      context.fillRect(from - 1, 0, wide + 2, floor);
    }
    bar(ground, levels.map(name => [nameClass(name), counts.levels[name][index]]), from, wide, floor, (floor - 4) / highest);
  }
  drawPlace(ground, x, floor);
  tellPlot();
}

function drawAxis({context, width, colour}, x, floor) {
  const least = (counts.end - counts.begin) * 70 / width, tick = TICKS.find(size => size >= least) ?? TICKS.at(-1);
  context.fillStyle = colour("line");
  context.fillRect(0, floor, width, 1);
  context.textAlign = "center";
  // From a midnight of the clock on, so that ticks fall on its whole hours.
  const midnight = startOfDay(counts.begin * 1000) / 1000;
  for (let seconds = midnight; seconds < counts.end; seconds += tick) {
    const place = x(seconds);
    if (place < 20 || place > width - 20) continue;
    context.fillStyle = colour("line");
    context.fillRect(Math.round(place), floor, 1, 4);
    context.fillStyle = colour("faint");
    context.fillText(tick >= 43_200 || minutes(seconds * 1000) === "00:00" ? date(seconds * 1000).slice(5) : minutes(seconds * 1000), place, floor + 14);
  }
}

/* Bisection would be exact; a step of a quarter of an hour is what a clock can be set by. */
function startOfDay(ms) {
  let at = Math.floor(ms / 900_000) * 900_000;
  while (dayNumber(at - 900_000) === dayNumber(ms)) at -= 900_000;
  return at;
}

/* Mark what the table shows. */
function drawPlace({context, colour}, x, floor) {
  const {first, last} = inSight();
  if (!first || !last) return;
  const from = x(first.ms / 1000), to = x(last.ms / 1000);
  context.fillStyle = colour("accent");
  context.fillRect(Math.min(from, to), floor - 1, Math.max(3, Math.abs(to - from)), 3);
}

function tellPlot() {
  const number = columns(), total = Array.from({length: number}, (_, index) => sumAt(index)).reduce((sum, each) => sum + each, 0);
  const words = at < 0 || at >= number ? `${plural(total, "record")} in the last ${span}`
    : `${dateTime(timeAt(at)).slice(0, -3)}: ${plural(sumAt(at), "record")}`
      + parts().filter(name => counts.levels[name][at]).map(name => `, ${count(counts.levels[name][at])} ${name}`).join("").replace(", ", " - ");
  say($("plot-words"), words);
  canvas.setAttribute("aria-valuemax", Math.max(0, number - 1));
  canvas.setAttribute("aria-valuenow", at < 0 ? Math.max(0, number - 1) : at);
  canvas.setAttribute("aria-valuetext", words);
}

function columnOf(event) {
  const {left, width} = canvas.getBoundingClientRect();
  const seconds = counts.begin + (event.clientX - left) / width * (counts.end - counts.begin);
  return Math.min(Math.max(0, Math.floor((seconds - counts.from) / counts.step)), columns() - 1);
}

function point(index) {
  at = index;
  plotHistory();
}

canvas.onpointermove = event => counts && point(columnOf(event));
canvas.onpointerleave = () => counts && point(-1);
canvas.onclick = event => counts && columns() && go(timeAt(columnOf(event)));
canvas.onkeydown = event => {
  if (!counts || !columns() || event.ctrlKey || event.altKey || event.metaKey) return;
  const last = columns() - 1, here = at < 0 ? last : at;
  const to = {ArrowLeft: here - 1, ArrowRight: here + 1, PageUp: here - 10, PageDown: here + 10, Home: 0, End: last}[event.key];
  if (event.key === "Enter") go(timeAt(here));
  else if (to !== undefined) point(Math.min(Math.max(0, to), last));
  else return;
  event.preventDefault();
  event.stopPropagation();
};
canvas.onblur = () => counts && point(-1);
$("spans").onclick = ({target}) => target.value && chooseSpan(target.value);
onClock(plotHistory);
