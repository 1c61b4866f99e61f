/* The live stream. It begins with the last records of history, through the same filters. */

import {filterQuery, historyCame, note, take} from "./records.js";
import {trouble, WORDS} from "./state.js";
import {$, plural} from "./words.js";

const RETRY_MS = 2_000, FIRST = 200;

let source = null, retry = 0, hasBegun = false, onLost = () => {};

/* Whether it is there, and has told what it begins with. */
export const isOpen = () => source?.readyState === EventSource.OPEN && hasBegun;

/* Call *listener* when the connection is lost; it returns whether the next one is to begin with history. */
export const whenLost = listener => { onLost = listener; };

/* Open the stream, anew if it is open; *withHistory*: it is to begin with the last records. */
export function connect(withHistory) {
  clearTimeout(retry);
  source?.close();
  trouble("filter");
  $("regex").removeAttribute("aria-invalid");
  const mine = source = new EventSource(`api/stream?${filterQuery({last: withHistory ? FIRST : ""})}`);
  mine.onopen = () => trouble("stream");
  let found = 0;
  hasBegun = !withHistory;
  mine.onmessage = event => {
    found++;
    take(JSON.parse(event.data));
  };
  mine.addEventListener("history", event => {
    hasBegun = true;
    historyCame(JSON.parse(event.data), found, FIRST);
  });
  mine.addEventListener("skipped", event => {
    note(`${plural(JSON.parse(event.data).records, "record")} skipped: they came faster than they can be shown`);
  });
  mine.addEventListener("ended", event => note(`The stream has ended: ${JSON.parse(event.data).reason}`));
  mine.onerror = () => {
    // Not left to the browser, which would ask for the same history again.
    const wasRefused = mine.readyState === EventSource.CLOSED;
    mine.close();
    trouble("stream", WORDS[0]);
    if (wasRefused) sayWhy(mine.url);
    const again = onLost();
    retry = setTimeout(connect, RETRY_MS, again);
  };
}

/* An EventSource does not tell what it was answered: ask again and look. */
async function sayWhy(url) {
  const abort = new AbortController();
  try {
    const answer = await fetch(url, {signal: abort.signal});
    const why = answer.ok ? "" : `No records are shown: ${(await answer.text()).trim()}.`;
    if (source.readyState === EventSource.OPEN) return;  // that took longer than the next attempt
    if (answer.status === 400) {
      // A filter is wrong, and stays so until it is changed.
      clearTimeout(retry);
      trouble("stream");
      trouble("filter", why);
      $("regex").setAttribute("aria-invalid", "true");
    } else if (why) {
      trouble("stream", `${why} Trying again.`);
    }
  } catch {
    // Nothing answers, and that has been said.
  }
  abort.abort();
}
