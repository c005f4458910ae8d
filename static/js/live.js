// What every page does by itself: announce what changed, keep times relative, focus the search,
// keep a form from being sent twice, show what a failed request said, close open menus, ask before
// what is not saved is left, keep what is tried, send by Ctrl+Enter.

/* --- announcements -------------------------------------------------------------------------- */

// what was last known of each announced element, by id
const known = new Map();

const text = (element) => element?.textContent.replace(/\s+/g, " ").trim() ?? "";

/** Put a sentence into the polite live region. */
export function announce(sentence) {
  const region = document.getElementById("announce");
  if (!region || !sentence) return;
  region.textContent = region.textContent === sentence ? `${sentence}\u00a0` : sentence;
}

// "recall 0.71 -> 0.78, n = 212" for includes/figure.html; the text itself for [data-announce]
function sentence(element, before) {
  if (element.dataset.figure === undefined) {
    return element.dataset.announce || text(element);
  }
  const now = text(element.querySelector("[data-figure-value]"));
  if (before === undefined) return now;
  const n = text(element.querySelector("[data-figure-n]"));
  return `${element.dataset.figure} ${before} → ${now}, n = ${n}`;
}

const MARKED_MILLISECONDS = 30_000;
const marks = new Map(); // id of a figure -> what changed, and until when it is marked

// what a figure was before, beside its name, for those who look at it
function mark(element) {
  const change = element.querySelector("[data-figure-change]");
  const { words, until } = marks.get(element.id) ?? {};
  if (!change || !words || until < Date.now()) return;
  change.textContent = words;
  change.hidden = false;
  element.dataset.changed = "";
}

function unmark() {
  for (const element of document.querySelectorAll("[data-changed]")) {
    if (marks.get(element.id)?.until > Date.now()) continue;
    delete element.dataset.changed;
    element.querySelector("[data-figure-change]").hidden = true;
  }
}

function observe(speak) {
  const changes = [];
  for (const element of document.querySelectorAll("[data-figure][id], [data-announce][id]")) {
    const now = sentence(element);
    const before = known.get(element.id);
    known.set(element.id, now);
    const figure = element.dataset.figure !== undefined;
    if (speak && now !== before) {
      if (!figure) changes.push(now);
      else if (before !== undefined) changes.push(sentence(element, before));
    }
    if (figure) compare(element, now, before);
  }
  if (changes.length) announce(changes.join(". "));
}

function compare(element, now, before) {
  const n = text(element.querySelector("[data-figure-n]"));
  const count = `n of ${element.id}`;
  const older = known.get(count);
  known.set(count, n);
  const words = before !== undefined && now !== before ? `${before} → ${now}` : `n ${older} → ${n}`;
  if (older !== undefined && (now !== before || n !== older)) {
    marks.set(element.id, { words, until: Date.now() + MARKED_MILLISECONDS });
    setTimeout(unmark, MARKED_MILLISECONDS + 100);
  }
  mark(element);
}

/* --- relative times ------------------------------------------------------------------------- */

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const absolute = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const UNITS = [
  ["year", 31_536_000],
  ["month", 2_592_000],
  ["day", 86_400],
  ["hour", 3600],
  ["minute", 60],
];

function tellTimes(part = document) {
  for (const time of part.querySelectorAll("time[data-relative]")) {
    const then = new Date(time.dateTime);
    if (Number.isNaN(then.getTime())) continue;
    const seconds = (then - Date.now()) / 1000;
    const [unit, length] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? [];
    const now = unit ? relative.format(Math.round(seconds / length), unit) : "just now";
    if (time.textContent !== now) time.textContent = now;
    if (!time.title) time.title = absolute.format(then);
  }
}

/* --- toasts --------------------------------------------------------------------------------- */

/** Show a sentence at the bottom right until it is closed; undo: takes back what it tells of. */
export function toast(sentenceToShow, kind = "", undo = null) {
  const place = document.getElementById("toasts");
  if (!place) return;
  const box = document.createElement("div");
  box.className = `toast ${kind && `toast-${kind}`}`;
  const words = document.createElement("span");
  words.textContent = sentenceToShow;
  const close = document.createElement("button");
  close.type = "button";
  close.className = "button button-small";
  close.textContent = "Close";
  close.addEventListener("click", () => box.remove());
  box.append(words, close);
  if (undo) {
    const back = close.cloneNode();
    back.textContent = "Undo";
    back.addEventListener("click", () => {
      box.remove();
      undo();
    });
    close.before(back);
  }
  place.replaceChildren(box);
}

// the sentence of problem.html or of a problem document (RFC 9457)
function detail(answer) {
  try {
    if (answer.trimStart().startsWith("{")) return JSON.parse(answer).detail;
  } catch {
    return "";
  }
  const page = new DOMParser().parseFromString(answer, "text/html");
  return text(page.querySelector("[data-problem-detail]"));
}

/* --- forms ---------------------------------------------------------------------------------- */

const HTMX = "[hx-post], [hx-get], [hx-put], [hx-patch], [hx-delete]";

function hold(form) {
  for (const button of form.querySelectorAll("button:not([type=button]), input[type=submit]")) {
    if (button.disabled) continue;
    button.disabled = true;
    button.dataset.held = "";
  }
}

function release() {
  for (const button of document.querySelectorAll("[data-held]")) {
    button.disabled = false;
    delete button.dataset.held;
  }
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  const method = event.submitter?.getAttribute("formmethod") ?? form.method;
  if (event.defaultPrevented || method !== "post" || form.matches(HTMX)) return;
  // after the browser has read the submitter's name and value
  setTimeout(() => hold(form));
});
addEventListener("pageshow", release);

/* --- keys and menus ------------------------------------------------------------------------- */

const typing = (target) => target.closest?.("input, textarea, select, [contenteditable]");

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    const menu = document.querySelector("details.menu[open]");
    if (!menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  }
  if (event.key === " " && event.target.matches?.("a[role=button]")) {
    event.preventDefault();
    event.target.click();
  }
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (typing(event.target) || document.querySelector("dialog[open]")) return;
  const search = document.querySelector("main input[type=search]");
  if (!search) return;
  event.preventDefault();
  search.focus();
  search.select();
});

/** Open a <dialog> above the page, also one that came open with the page. */
export function openDialog(dialog) {
  if (!dialog) return;
  dialog.close();
  dialog.showModal();
}

for (const dialog of document.querySelectorAll("dialog[open]")) openDialog(dialog);

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
  const opener = event.target.closest("[data-dialog]");
  if (opener) {
    // without scripts it is a link to the page with the dialog open
    event.preventDefault();
    openDialog(document.getElementById(opener.dataset.dialog));
  }
  const closer = event.target.closest("[data-close]");
  if (closer) {
    event.preventDefault();
    closer.closest("dialog")?.close();
  }
});

/* --- tables on a small screen --------------------------------------------------------------- */

const ROLES = { TABLE: "table", THEAD: "rowgroup", TBODY: "rowgroup", TR: "row", TD: "cell" };

// There a row is a block that names its cells (components.css). A table that is laid out as blocks
// is none to a screen reader unless it says what it is.
export function nameCells(place) {
  for (const table of place.querySelectorAll(".table")) {
    const heads = [...(table.tHead?.rows[0]?.cells ?? [])].map(text);
    for (const part of [table, ...table.querySelectorAll("thead, tbody, tr, td")]) {
      part.setAttribute("role", ROLES[part.tagName]);
    }
    for (const head of table.querySelectorAll("th")) {
      head.setAttribute("role", head.scope === "row" ? "rowheader" : "columnheader");
    }
    for (const cell of table.querySelectorAll("tbody td")) {
      cell.dataset.label = cell.colSpan > 1 ? "" : heads[cell.cellIndex] ?? "";
      cell.toggleAttribute("data-empty", !text(cell) && !cell.querySelector("input, button, svg"));
    }
  }
}

/* --- htmx ----------------------------------------------------------------------------------- */

function refresh(event) {
  const place = event.target instanceof Element ? event.target.parentElement ?? document : document;
  tellTimes(place);
  observe(true);
}

/* --- what stands around a part that follows by itself ---------------------------------------- */

let following = false;

// When figures changed or a run ended ([data-leads] was swapped), the rest of the page that depends
// on it, every [data-follow] with an id, is fetched once and put in place.
async function follow() {
  if (following) return;
  following = true;
  try {
    const response = await fetch(location.href);
    if (!response.ok || response.redirected) return;
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    for (const part of document.querySelectorAll("[data-follow][id]")) {
      const now = page.getElementById(part.id);
      if (!now || !part.isConnected || part.contains(document.activeElement)) continue;
      // a plot keeps its canvas; its numbers follow by parapet:followed
      const plots = (place) => place.querySelectorAll("canvas").length;
      if (plots(part) && plots(part) === plots(now)) continue;
      part.replaceChildren(...now.childNodes);
      tellTimes(part);
      nameCells(part);
    }
    document.dispatchEvent(new CustomEvent("parapet:followed", { detail: page }));
  } catch {
    // the server cannot be reached; the next change asks again
  } finally {
    following = false;
  }
}

document.addEventListener("htmx:afterSwap", (event) => {
  nameCells(document);
  if (event.target.matches?.("[data-leads]")) follow();
});
document.addEventListener("htmx:afterSettle", refresh);
document.addEventListener("htmx:oobAfterSwap", refresh);

// whoever signs in in another tab goes on here; signing in has changed the token of every form
let signedOut = false;
document.addEventListener("htmx:responseError", (event) => {
  const { responseText, status } = event.detail.xhr;
  signedOut ||= status === 401;
  toast(detail(responseText) || `That did not work (${status}). Reload the page and try again.`, "bad");
});
addEventListener("focus", async () => {
  if (!signedOut) return;
  const answer = await fetch(location.href).catch(() => null);
  if (!answer || answer.redirected) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const token = page.querySelector('meta[name="csrf-token"]').content;
  document.querySelector('meta[name="csrf-token"]').content = token;
  for (const field of document.querySelectorAll("[name=csrfmiddlewaretoken]")) field.value = token;
  document.body.setAttribute("hx-headers", JSON.stringify({ "X-CSRFToken": token }));
  signedOut = false;
  toast("You are signed in again. Save once more.");
});

document.addEventListener("htmx:sendError", () => {
  toast("The server cannot be reached. Check your connection; what you typed is still here.", "bad");
});

/* --- what is not saved yet -------------------------------------------------------------------- */

// [data-unsaved] is a form that nothing saves by itself; "yes" where it came with unsaved changes
const unsaved = document.querySelector("form[data-unsaved]");
unsaved?.addEventListener("input", (event) => {
  if (!event.target.closest("[data-unsaved=never]")) unsaved.dataset.unsaved = "yes";
});
unsaved?.addEventListener("submit", () => {
  unsaved.dataset.unsaved = "sent";
});
addEventListener("beforeunload", (event) => {
  if (unsaved?.dataset.unsaved === "yes") event.preventDefault();
});

// whoever sent a form with something wrong in it is taken there
document.querySelector("[aria-invalid=true]")?.focus();

// on a small screen the open tab may be outside its row
for (const link of document.querySelectorAll(".tabs > [aria-current], .topbar-nav > [aria-current]")) {
  const row = link.parentElement;
  row.scrollLeft = link.offsetLeft - row.offsetLeft - (row.clientWidth - link.offsetWidth) / 2;
}

nameCells(document);
observe(false);
tellTimes();
setInterval(() => tellTimes(), 30_000);

/* --- what is tried stays while its page is saved ([data-kept]) --------------------------------- */

for (const group of document.querySelectorAll("[data-kept]")) {
  const fields = [...group.querySelectorAll("textarea, select")];
  const nameOf = (field) => `parapet-kept ${location.pathname} ${field.id}`;
  try {
    if (!group.querySelector("textarea").value) {
      for (const field of fields) field.value = sessionStorage.getItem(nameOf(field)) ?? field.value;
    }
    group.addEventListener("input", () => {
      for (const field of fields) sessionStorage.setItem(nameOf(field), field.value);
    });
  } catch {
    // a browser that keeps nothing loses it
  }
}

/* --- Ctrl+Enter in a text that is to be judged presses the button below it ([data-send-key]) --- */

document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.repeat) return;
  if (!event.target.matches("[data-send-key]")) return;
  event.preventDefault();
  event.target.closest("section, form").querySelector("button[type=submit]").click();
});
