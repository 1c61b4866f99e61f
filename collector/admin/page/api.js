/* Questions to the admin port, and its answers. */

import {WORDS} from "./state.js";

const TIMEOUT_MS = 10_000;

/* What the collector answers instead of what was asked for; *seconds*: when to ask again, 0 where it does not say. */
class Refusal extends Error {
  constructor(words, status = 0, seconds = 0) {
    super(words);
    Object.assign(this, {status, seconds});
  }
}

/* Return the answer to a question, null if it is still the one with the tag *known*. Raises Refusal; and what fetch
   raises, where *signal* ends it. */
export async function ask(what, {signal, timeout = TIMEOUT_MS, known = ""} = {}) {
  let answer;
  try {
    const headers = known ? {"If-None-Match": known} : {};
    answer = await fetch(`api/${what}`, {headers, cache: "no-store", signal: AbortSignal.any([AbortSignal.timeout(timeout), ...signal ? [signal] : []])});
    if (answer.status === 304) return null;
    if (answer.ok) return {...await answer.json(), tag: answer.headers.get("ETag")};
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refusal(WORDS[0]);
  }
  const said = (await answer.text()).trim().slice(0, 300);
  throw new Refusal(WORDS[answer.status] ?? (said || `The collector answers ${answer.status} ${answer.statusText}.`),
    answer.status, Number(answer.headers.get("Retry-After")) || 0);
}
