/* What is wrong, in words; and how the collector is, in the header, the title and the icon: a tab in the
   background tells, too. */

import {minutes, onClock, seconds} from "./clock.js";
import {$, rate, say} from "./words.js";

export const WORDS = {
  0: "Connection lost: the collector does not answer.",
  401: "The collector asks for its token.",
  421: "The collector refuses this address: open the page by its IP address or configured name.",
};

/* How the reader looks: "" follows the stream; else it stands still. */
export const reader = {paused: "", detached: false};

const troubles = new Map();
let host = location.hostname, recordsPerSecond, lostAt = 0;

/* Show what is wrong, in words, until it is called again for the same *place* without any. */
export function trouble(place, words = "") {
  if (words) troubles.set(place, words); else troubles.delete(place);
  if (!isLost()) lostAt = 0; else lostAt ||= Date.now();
  showState();
}

const isLost = () => troubles.has("stream") || troubles.has("answer");

/* Take what the last answer told: the machine's name and its records a second. */
export function tell(name, records) {
  host = name || host;
  recordsPerSecond = records;
  showState();
}

export function showState() {
  // A stream that fails does not say why; an answer does.
  const why = troubles.get("answer") ?? troubles.get("stream");
  const since = lostAt ? ` Nothing here has been updated since ${seconds(lostAt)}.` : "";
  const text = [why && why === WORDS[0] ? `${why}${since} Trying again.` : why,
    troubles.get("filter"), troubles.get("history"), troubles.get("health")].filter(Boolean).join("\n");
  say($("alarm-text"), text);
  $("alarm").hidden = !text;
  $("token").hidden = why !== WORDS[401];
  const kind = isLost() ? "lost" : troubles.has("health") ? "bad" : reader.paused ? "paused" : "live";
  const words = isLost() ? "no connection" : reader.detached ? "looking back" : reader.paused ? "paused" : "live";
  if ($("state").className !== kind) $("state").className = kind;
  say($("state"), words);
  document.body.classList.toggle("lost", isLost());
  document.body.classList.toggle("paused", Boolean(reader.paused));
  say($("host"), host);
  document.title = {
    lost: `✕ ${host}: no connection since ${minutes(lostAt)}`,
    bad: `⚠ ${host}: ${troubles.get("health")}`,
    paused: `❚❚ ${rate(recordsPerSecond)}/s ${host}`,
    live: `${rate(recordsPerSecond)}/s ${host}`,
  }[kind];
  showIcon(kind);
}

onClock(showState);

let shownIcon = "";

/* A disc: green while all is well, with bars when the page is paused, a mark when something is wrong. */
function showIcon(kind) {
  if (shownIcon === kind) return;
  shownIcon = kind;
  const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
  canvas.width = canvas.height = 32;
  context.fillStyle = {live: "#188038", paused: "#b06000", bad: "#c5221f", lost: "#5f6368"}[kind];
  context.arc(16, 16, 15, 0, 2 * Math.PI);
  context.fill();
  context.fillStyle = context.strokeStyle = "#ffffff";
  if (kind === "paused") for (const x of [10, 18]) context.fillRect(x, 9, 4, 14);
  if (kind === "bad") context.fillRect(14, 6, 4, 13), context.fillRect(14, 22, 4, 4);
  if (kind === "lost") {
    context.lineWidth = 4;
    for (const [from, to] of [[10, 22], [22, 10]]) context.moveTo(from, 10), context.lineTo(to, 22);
    context.stroke();
  }
  $("icon").href = canvas.toDataURL();
}
