/* One record, whole: its text, its facts, and both to be copied. */

import {fullTime, zoneWords} from "./clock.js";
import {$, button, element, plural, say} from "./words.js";

const MAX_CHARACTERS = 200_000;

export const detail = element("div");
detail.id = "detail";
detail.hidden = true;
detail.setAttribute("role", "row");

const body = record => [record.message, record.exception, record.stack].filter(Boolean).join("\n");

export function describe(record) {
  const cell = element("div"), text = body(record), cut = text.length - MAX_CHARACTERS;
  cell.setAttribute("role", "gridcell");
  cell.append(element("pre", "", text.slice(0, MAX_CHARACTERS)));
  if (cut > 0 || record.cut) cell.append(element("p", "", cut > 0 ? `${plural(cut, "character")} more are in the file.` : "Cut: all of it is in the file."));
  const facts = {
    time: `${fullTime(record)} (${zoneWords(record.ms)})`, logger: record.logger, client: record.client,
    place: record.file ? `${record.file}:${record.line} ${record.function ?? ""}` : record.line && `line ${record.line}`,
    process: record.process && `${record.process} ${record.process_name ?? ""}`,
    thread: record.thread && `${record.thread} ${record.thread_name ?? ""}`, task: record.task_name,
    extra: record.extra && JSON.stringify(record.extra).slice(0, MAX_CHARACTERS),
  };
  const list = element("dl");
  for (const [name, fact] of Object.entries(facts)) if (fact) list.append(element("dt", "", name), element("dd", "", fact));
  const copies = element("p", "copies");
  copies.append(button("Copy text", () => copy(record, "text")), button("Copy JSON", () => copy(record, "JSON")));
  cell.append(list, copies);
  detail.replaceChildren(cell);
  detail.scrollTop = 0;
}

const FORMS = {
  text: record => `${fullTime(record)} ${record.level ?? ""} ${record.logger ?? ""}: ${body(record)}\n`,
  JSON: ({ms, number, size, tall, tallFor, dayFirst, cursor, ...record}) => JSON.stringify(record, null, 2) + "\n",
};

/* Put a record into the clipboard as "text" or "JSON", and say so. */
export async function copy(record, form) {
  const text = FORMS[form](record);
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // There is no clipboard for a page over plain HTTP but this way.
    const field = element("textarea"), before = document.activeElement;
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    before?.focus();
  }
  say($("done"), `Copied as ${form}`);
  setTimeout(say, 3_000, $("done"), "");
}
