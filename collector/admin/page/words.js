/* Numbers and records in words, and how an element is made. Text from records becomes text and nothing else. */

/* Without a prototype: a level may be called "constructor". */
export const LEVELS = {__proto__: null, CRITICAL: 50, ERROR: 40, WARNING: 30, INFO: 20, DEBUG: 10};

export const $ = id => document.getElementById(id);

export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

/* Return a button that calls *click*, and does not send the form that it may stand in. */
export function button(text, click) {
  const made = element("button", "", text);
  made.type = "button";
  made.onclick = click;
  return made;
}

/* Set the text of *place* if it is another: what a screen reader hears, and what is selected, is let alone. */
export function say(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

export const count = new Intl.NumberFormat("en").format;
export const rate = n => n === undefined ? "…" : n < 9.95 ? String(Math.round(n * 10) / 10) : count(Math.round(n));
export const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;

export function bytes(n) {
  const unit = n ? Math.min(4, Math.floor(Math.log2(n) / 10)) : 0;
  return `${(n / 1024 ** unit).toFixed(unit && n / 1024 ** unit < 100 ? 1 : 0)}\u00a0${["bytes", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}

export function duration(seconds) {
  const [unit, size] = [["d", 86400], ["h", 3600], ["min", 60]].find(([, size]) => seconds >= 2 * size) ?? ["s", 1];
  return `${Math.floor(seconds / size)} ${unit}`;
}

export const nameClass = name => name in LEVELS ? name.toLowerCase() : "other";

export const levelClass = levelno => levelno >= 50 ? "critical" : levelno >= 40 ? "error" : levelno >= 30 ? "warning"
  : levelno >= 20 ? "info" : levelno === undefined ? "other" : "debug";

/* Lines as one line, for a place that has no more. */
export const oneLine = (text, characters) => String(text).slice(0, characters).replace(/\s*[\r\n]+\s*/g, " ⏎ ");
