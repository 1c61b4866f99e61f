/* The exceptions: tracebacks by what they are, those that are new since a chosen time first. */

import {ask} from "./api.js";
import {dateTime, entered, onClock} from "./clock.js";
import {goTo, setFilter} from "./looking.js";
import {$, button, count, element, oneLine, plural, say} from "./words.js";

const POLL_MS = 1_000, ASIDE_MS = 15_000, MESSAGE_CHARACTERS = 300;

let timer = 0, asked = 0, isShown = false, groups = [], skipped = 0, tag = "", showRecords = () => {};
const items = new Map();                      // the element of each group, by its id
const opened = new Set();

/* Call *listener* when the reader wants to see records. */
export const whenRecordsAreWanted = listener => { showRecords = listener; };

export function show(isOn) {
  isShown = isOn;
  poll();
}

/* Since when a group is new, in milliseconds; NaN where no such time has been entered. */
function since() {
  const chosen = $("since").value;
  $("since-when").hidden = chosen !== "";
  const ms = entered(chosen || $("since-time").value);
  $("since-time").setAttribute("aria-invalid", Number.isNaN(ms));
  return ms;
}

export async function poll() {
  clearTimeout(timer);
  const mine = ++asked, begun = performance.now(), from = since(), isWrong = Number.isNaN(from);
  try {
    const answer = await ask(`exceptions?since=${Math.floor((isWrong ? entered("1d") : from) / 1000)}`, {known: tag});
    if (mine !== asked) return;
    if (answer) ({groups, skipped, tag} = answer);
    draw();
    say($("exceptions-fault"), isWrong ? `${$("at-fault").textContent} Until then, 24 hours ago is taken.` : "");
  } catch (error) {
    say($("exceptions-fault"), error.message);
  }
  // A thousand groups are megabytes: while they change, they are not to take all of the time here and there.
  const took = performance.now() - begun;
  if (mine === asked) timer = setTimeout(poll, Math.max(10 * took, isShown && !document.hidden ? POLL_MS : ASIDE_MS));
}

const inMs = time => typeof time === "number" ? time * 1000 : Date.parse(time);

function draw() {
  const fresh = groups.filter(group => group.new).length;
  say($("exceptions-tab"), fresh ? `Exceptions, ${count(fresh)} new` : "Exceptions");
  if (!isShown) return;
  const total = groups.reduce((sum, group) => sum + group.count, 0);
  say($("exceptions-count"), (groups.length ? `${plural(groups.length, "kind")}, ${plural(total, "time")} in all, ${fresh ? count(fresh) : "none"} new`
    : "No exception was logged in the last week") + (skipped ? `; ${count(skipped)} more came too fast to be looked at` : ""));
  for (const id of items.keys()) if (!groups.some(group => group.id === id)) items.get(id).remove(), items.delete(id);
  groups.forEach((group, index) => {
    const item = items.get(group.id) ?? make(group.id);
    fill(item, group);
    // Moved only if it has another place: what has the focus would lose it.
    if ($("groups").children[index] !== item) $("groups").insertBefore(item, $("groups").children[index] ?? null);
  });
}

function make(id) {
  const item = element("li"), more = element("div", "more"), go = element("p");
  const head = button("", () => {
    if (!opened.delete(id)) opened.add(id);
    fill(item, item.group);
  });
  head.className = "group";
  head.append(...["new", "class", "times", "message", "when"].map(name => element("span", name)));
  more.id = `group-${items.size}-${Math.random().toString(36).slice(2)}`;
  head.setAttribute("aria-controls", more.id);
  go.append(button("Show where it last happened", () => visit(item.group)));
  more.append(element("p", "facts"), element("p", "frames"), element("pre"), go);
  item.append(head, more);
  items.set(id, item);
  return item;
}

function fill(item, group) {
  item.group = group;
  const [head, more] = item.children, [mark, name, times, message, when] = head.children, isOpen = opened.has(group.id);
  const first = dateTime(inMs(group.first)), last = dateTime(inMs(group.last));
  say(mark, group.new ? "new" : "");
  name.title = group.class;
  say(name, group.class.split(".").at(-1));
  say(times, `${count(group.count)}×`);
  say(message, oneLine(withoutClass(group.error, group.class) || group.message, MESSAGE_CHARACTERS));
  say(when, last);
  head.setAttribute("aria-expanded", isOpen);
  more.hidden = !isOpen;
  if (!isOpen) return;
  const [facts, frames, traceback] = more.children;
  say(facts, `${group.class}: ${plural(group.count, "time")}, first ${first}, last ${last}, from ${group.loggers.join(", ")}`);
  say(frames, group.frames.length ? `Frames of the application: ${group.frames.join(" → ")}` : "");
  say(traceback, `${group.message}\n${group.traceback}`);
}

const withoutClass = (error, name) => error?.startsWith(`${name}: `) ? error.slice(name.length + 2) : error;

/* The latest one is known by its message: its record has the time of the client, and the group that of the collector. */
function visit(group) {
  showRecords();
  if ($("level").value || $("logger").value || $("text").value || $("regex").value) {
    for (const name of ["level", "logger", "regex"]) $(name).value = "";
    setFilter("text", "");
  }
  goTo(inMs(group.last), record => record.exception && record.message.startsWith(group.message));
}

$("since").onchange = $("since-time").oninput = poll;
onClock(draw);
