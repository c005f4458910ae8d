// The Label workspace: answer by key or click; the next item is on the screen at once, because it
// was fetched ahead. Answers go through an outbox in this browser, so closing the tab, a reload or
// a dead network loses none: they are sent again until the server has them (submitting a lease
// twice is harmless).

import { announce, nameCells, openDialog, toast } from "./live.js";

const bench = document.querySelector("[data-workbench]");
const screen = bench.querySelector("[data-screen]");
const ahead = document.getElementById("ahead");
const saved = document.querySelector("[data-saved]");
const csrf = bench.querySelector("[name=csrfmiddlewaretoken]").value;
const OUTBOX = `parapet-outbox-${bench.dataset.person}-${bench.dataset.again}-`;
const TOLD = "parapet-told";
const KEYS = "parapet-keys";
const BLUR = "parapet-blur";
const DRAFT = "parapet-draft-";
const DRAFT_MILLISECONDS = 86_400_000;
const RETRY_MILLISECONDS = 2000;
// nobody has read an item in this time: the same answer again was a double click on the one before
const UNREAD_MILLISECONDS = 250;

let shownAt = performance.now();
let last = ""; // the verdict before

/* --- what this browser keeps ------------------------------------------------------------------ */

function load(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function keep(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value));
  } catch {
    // a browser that keeps nothing still labels; it only forgets when it is closed
  }
}

function forget(name) {
  try {
    localStorage.removeItem(name);
  } catch {
    // it was never kept
  }
}

function names() {
  try {
    return Object.keys(localStorage);
  } catch {
    return [];
  }
}

/** Load the page anew; the sentence is shown on it. */
function restart(sentence = "") {
  try {
    sessionStorage.setItem(TOLD, sentence);
  } catch {
    // then it is not said
  }
  location.assign(bench.dataset.again);
}

function tellAgain() {
  try {
    const sentence = sessionStorage.getItem(TOLD);
    sessionStorage.removeItem(TOLD);
    if (sentence) toast(sentence, "bad");
  } catch {
    // nothing was kept to be said
  }
}

/* --- the screen ------------------------------------------------------------------------------- */

const onScreen = () => screen.querySelector("[data-item]");
const lease = () => onScreen()?.dataset.lease;
const aheadItem = () => ahead.content.querySelector("[data-item]");

/** What was ticked and written of the item on the screen, which is not answered yet. */
function keepDraft() {
  const rules = ticked().map((box) => box.value);
  const rationale = bench.querySelector("[name=rationale]").value;
  if (lease()) keep(DRAFT + lease(), { at: Date.now(), rules, rationale });
}

function showDraft() {
  const draft = load(DRAFT + lease(), null);
  if (!draft) return;
  for (const box of bench.querySelectorAll("[name=rules]")) box.checked = draft.rules.includes(box.value);
  bench.querySelector("[name=rationale]").value = draft.rationale;
}

const ticked = () => [...bench.querySelectorAll("[name=rules]:checked")];

function show(item) {
  screen.replaceChildren(item);
  for (const box of bench.querySelectorAll("[name=rules]")) {
    box.checked = (item.dataset.rules ?? "").split(" ").includes(box.value);
  }
  bench.querySelector("[name=rationale]").value = item.dataset.rationale ?? "";
  for (const button of bench.querySelectorAll("[name=verdict]")) {
    button.setAttribute("aria-pressed", String(button.value === item.dataset.verdict));
  }
  showDraft();
  shownAt = performance.now();
  if (scrollY) scrollTo(0, 0);
  const sample = item.querySelector(".output .sample");
  if (!sample) return;
  sample.dataset.brought = "";
  sample.addEventListener("blur", () => delete sample.dataset.brought, { once: true });
  sample.focus({ preventScroll: true });
}

/** Put the item that was fetched ahead on the screen; without one, ask the server for the page. */
function advance() {
  const next = aheadItem();
  if (next && next.dataset.version === onScreen().dataset.version) {
    show(next);
    return true;
  }
  return false;
}

function lock(locked) {
  for (const button of bench.querySelectorAll(".verdict")) button.disabled = locked;
}

/* --- the outbox ------------------------------------------------------------------------------- */

// One entry an answer, each under a name of its own, so that two tabs never write over each other.
// What an earlier visit or another tab left is sent as well: the first answer to a lease stands.
let outbox = names()
  .filter((name) => name.startsWith(OUTBOX))
  .map((name) => load(name, null))
  .filter(Boolean)
  .sort((one, other) => one.at - other.at);
let sending = null;
let busy = false; // nothing can be answered: an earlier visit's answers are sent, or an undo is

const nameOf = (entry) => OUTBOX + entry.lease;

function tell() {
  saved.textContent = outbox.length ? `saving ${outbox.length}…` : "saved";
  saved.classList.toggle("pill-warn", outbox.length > 1);
}

function put(entry) {
  outbox.push(entry);
  keep(nameOf(entry), entry);
  tell();
  send();
}

async function post(url, fields) {
  return fetch(url, {
    method: "POST",
    headers: { "X-CSRFToken": csrf, "X-Requested-With": "parapet" },
    body: new URLSearchParams(fields),
    keepalive: true,
  });
}

/** Send what waits, in order; resolves when all is sent or the server cannot be reached. */
function send() {
  sending ??= empty().finally(() => {
    sending = null;
  });
  return sending;
}

function later() {
  saved.textContent = `offline, ${outbox.length} kept`;
  saved.classList.add("pill-warn");
  setTimeout(send, RETRY_MILLISECONDS);
}

async function empty() {
  while (outbox.length) {
    const entry = outbox[0];
    const fields = [["lease", entry.lease], ...entry.fields, ["ahead", lease() ?? ""]];
    let response;
    try {
      response = await post(entry.url, fields);
    } catch {
      return later();
    }
    if (response.status >= 500 || response.status === 429) return later();
    // signed out, or this page's form is too old: the answer waits for the page that comes then
    if (response.redirected || response.status === 401) return restart();
    if (response.status === 403 && !entry.refused) {
      keep(nameOf(entry), { ...entry, refused: true });
      return restart();
    }
    outbox.shift();
    forget(nameOf(entry));
    tell();
    await take(response);
  }
  if (bench.dataset.resume !== undefined) restart();
}

addEventListener("online", send);

/** What the server answers to an answer: the item to keep ahead, or that there is none. */
async function take(response) {
  if (!response.ok) {
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const why = page.querySelector("[data-problem-detail]")?.textContent.trim();
    return restart(why ?? "The server did not take an answer; this is what it has.");
  }
  if (bench.dataset.resume !== undefined) return;
  const html = response.status === 204 ? "" : await response.text();
  const part = new DOMParser().parseFromString(html, "text/html");
  const item = part.querySelector("[data-item]");
  ahead.content.replaceChildren(...(item ? [document.adoptNode(item)] : []));
  if (bench.dataset.waiting !== undefined) {
    delete bench.dataset.waiting;
    lock(false);
    if (!item || !advance()) restart();
  }
}

/** Leave the item on the screen for the next one; false when nothing can be answered now. */
function leave(url, fields) {
  const current = lease();
  if (!current || busy || bench.dataset.waiting !== undefined) return false;
  forget(DRAFT + current);
  if (!advance()) {
    bench.dataset.waiting = "";
    lock(true);
  }
  put({ lease: current, url, fields, at: Date.now() });
  return true;
}

/* --- answering -------------------------------------------------------------------------------- */

const today = document.querySelector("[data-today]");
const left = document.querySelector("[data-left]");
const bar = document.querySelector("[data-progress]");

function count(step) {
  today.textContent = Number(today.textContent) + step;
  left.textContent = Math.max(0, Number(left.textContent) - step);
  bar.value += step;
}

let contradicted = ""; // the item of which it was said that what breaks a rule does not comply

function answer(verdict) {
  if (verdict === last && performance.now() - shownAt < UNREAD_MILLISECONDS) return;
  const broken = verdict === "complies" ? ticked().filter((box) => !box.closest(".rule-allowed")) : [];
  if (broken.length && contradicted !== lease()) {
    contradicted = lease();
    toast("A broken rule is ticked. Violates keeps it; complies once more leaves it out.", "bad");
    return;
  }
  const rules = ticked().filter((box) => !broken.includes(box)).map((box) => ["rules", box.value]);
  const seconds = ((performance.now() - shownAt) / 1000).toFixed(1);
  const rationale = bench.querySelector("[name=rationale]").value;
  const fields = [["verdict", verdict], ["seconds", seconds], ["rationale", rationale], ...rules];
  if (!leave(bench.action, fields)) return;
  last = verdict;
  count(1);
  announce(`${verdict}; next item`);
}

async function undo() {
  if (busy || bench.dataset.waiting !== undefined) return;
  busy = true;
  try {
    await send();
    if (outbox.length) {
      toast("Undo needs the server; your answers are kept and sent when it is back.");
      return;
    }
    const response = await post(bench.dataset.undo, []);
    if (response.redirected) return restart();
    if (!response.ok) {
      toast(response.status === 409 ? "There is nothing to undo." : "Undo did not work; try again.", "bad");
      return;
    }
    const part = new DOMParser().parseFromString(await response.text(), "text/html");
    const item = part.querySelector("[data-item]");
    if (!item) return restart();
    const current = onScreen();
    if (current) ahead.content.replaceChildren(current);
    show(document.adoptNode(item));
    last = ""; // it was read before
    count(-1);
    announce("Undone; the item is back");
  } catch {
    toast("The server cannot be reached; nothing was undone.", "bad");
  } finally {
    busy = false;
  }
}

bench.addEventListener("input", keepDraft);

bench.addEventListener("submit", (event) => {
  event.preventDefault();
  if (event.submitter?.name === "verdict") answer(event.submitter.value);
});

document.querySelector("[data-skip-form]").addEventListener("submit", (event) => {
  event.preventDefault();
  const fields = new FormData(event.target);
  const reason = fields.get("reason") || fields.get("other");
  if (!reason) return event.target.querySelector("#other").focus();
  document.getElementById("skip").close();
  if (leave(bench.dataset.skip, [["reason", reason]])) announce("Skipped");
});

document.addEventListener("submit", (event) => {
  if (event.target.action.endsWith(bench.dataset.undo)) {
    event.preventDefault();
    undo();
  }
}, true);

function blur(on) {
  keep(BLUR, on);
  screen.classList.toggle("blurred", on);
  document.querySelector("[data-action-button=blur]").setAttribute("aria-pressed", String(on));
}

document.querySelector("[data-action-button=blur]").addEventListener("click", () => blur(!load(BLUR, false)));

/* --- keys ------------------------------------------------------------------------------------- */

const DEFAULTS = { violates: "v", complies: "c", unsure: "u", skip: "s", undo: "z", rationale: "r", blur: "b" };
const NAMES = {
  violates: "Violates",
  complies: "Complies",
  unsure: "Unsure",
  skip: "Skip, with a reason",
  undo: "Undo the last answer",
  rationale: "Write a rationale",
  blur: "Blur on and off",
};
const openSkip = () => openDialog(document.getElementById("skip"));
const ACTIONS = {
  violates: () => answer("violates"),
  complies: () => answer("complies"),
  unsure: () => answer("unsure"),
  skip: openSkip,
  undo,
  rationale: () => bench.querySelector("[name=rationale]").focus(),
  blur: () => blur(!load(BLUR, false)),
};

let keys = load(KEYS, { enabled: true, map: {} });
const keyOf = (action) => keys.map[action] ?? DEFAULTS[action];

function showKeys() {
  for (const mark of document.querySelectorAll("[data-key-of]")) {
    mark.textContent = keyOf(mark.dataset.keyOf).toUpperCase();
    mark.hidden = !keys.enabled;
  }
  for (const input of document.querySelectorAll("[data-key-rows] input")) {
    input.value = keyOf(input.dataset.action).toUpperCase();
  }
  document.querySelector("[data-keys] [name=enabled]").checked = keys.enabled;
}

function buildKeyMap() {
  const rows = document.querySelector("[data-key-rows]");
  for (const [action, name] of Object.entries(NAMES)) {
    const row = document.createElement("tr");
    const title = document.createElement("th");
    title.scope = "row";
    title.textContent = name;
    const cell = document.createElement("td");
    const input = document.createElement("input");
    Object.assign(input, { type: "text", maxLength: 1, size: 2, value: keyOf(action).toUpperCase() });
    input.dataset.action = action;
    input.setAttribute("aria-label", `Key for: ${name}`);
    input.addEventListener("focus", () => input.select());
    input.addEventListener("change", () => {
      // what was refused is not left standing
      input.setCustomValidity("");
      input.value = keyOf(action).toUpperCase();
    });
    input.addEventListener("input", () => {
      const key = input.value.toLowerCase();
      const taken = Object.keys(DEFAULTS).some((other) => other !== action && keyOf(other) === key);
      if (!/^[a-z]$/.test(key) || taken) {
        input.setCustomValidity("A letter that nothing else uses");
        input.reportValidity();
        return;
      }
      input.setCustomValidity("");
      keys.map[action] = key;
      keep(KEYS, keys);
      showKeys();
    });
    cell.append(input);
    row.append(title, cell);
    rows.append(row);
  }
  const form = document.querySelector("[data-keys]");
  form.querySelector("[name=enabled]").addEventListener("change", (event) => {
    keys.enabled = event.target.checked;
    keep(KEYS, keys);
    showKeys();
  });
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    keys = { enabled: true, map: {} };
    keep(KEYS, keys);
    showKeys();
  });
  showKeys();
}

const typing = (target) => target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]");

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "Escape" && typing(event.target)) {
    event.target.blur();
    return;
  }
  if (typing(event.target)) return;
  if (event.key === "?") {
    event.preventDefault();
    document.getElementById("keys").showModal();
    return;
  }
  if (!keys.enabled) return;
  if (/^[1-9]$/.test(event.key)) {
    const box = bench.querySelectorAll("[name=rules]")[Number(event.key) - 1];
    if (box) box.checked = !box.checked;
    keepDraft();
    return;
  }
  const action = Object.keys(DEFAULTS).find((name) => keyOf(name) === event.key.toLowerCase());
  if (!action) return;
  event.preventDefault();
  ACTIONS[action]();
});

buildKeyMap();
nameCells(document);
for (const name of names().filter((one) => one.startsWith(DRAFT))) {
  if (Date.now() - load(name, null)?.at > DRAFT_MILLISECONDS) forget(name);
}
blur(load(BLUR, false));
tell();
tellAgain();
showDraft();
if (outbox.length) {
  // these go first; then the page is asked for again
  bench.dataset.resume = "";
  busy = true;
  lock(true);
  send();
}
