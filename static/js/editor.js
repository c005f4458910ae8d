// The policy editor: rules and examples are added, moved and removed in place; every change is
// saved by the form's own htmx trigger ("parapet:changed"). Without this file the form still works.

import { toast } from "./live.js";

const form = document.querySelector("[data-editor]");

function changed() {
  form.dispatchEvent(new CustomEvent("parapet:changed", { bubbles: true }));
}

function reveal(part) {
  for (const button of part.querySelectorAll("[data-move], [data-remove-rule], [data-add-example]")) {
    button.hidden = false;
  }
}

let highest = -1; // of all numbers that rules had here, those that were removed too

// a fresh number for a new rule, so that no two share their names
function nextNumber() {
  const used = [...form.querySelectorAll("[data-rule]")].map((rule) => Number(rule.dataset.rule));
  highest = Math.max(highest, ...used) + 1;
  return highest;
}

function removeRule(rule) {
  const [list, after] = [rule.parentElement, rule.nextElementSibling];
  const neighbour = after ?? rule.previousElementSibling;
  highest = Math.max(highest, Number(rule.dataset.rule));
  rule.remove();
  (neighbour?.querySelector("summary") ?? form.querySelector("[data-add-rule]")).focus();
  changed();
  toast("The rule is removed.", "", () => {
    list.insertBefore(rule, after?.parentElement === list ? after : null);
    rule.querySelector("summary").focus();
    changed();
  });
}

function renumber(element, from, to) {
  for (const name of ["id", "for", "name"]) {
    const value = element.getAttribute(name);
    if (value) element.setAttribute(name, value.replace(from, to));
  }
}

function addRule() {
  const number = nextNumber();
  const rule = document
    .getElementById("rule-template")
    .content.querySelector("[data-rule]")
    .cloneNode(true);
  rule.dataset.rule = number;
  rule.querySelector("[name=order]").value = number;
  for (const element of rule.querySelectorAll("*")) renumber(element, "NUMBER", number);
  form.querySelector("[data-rules]").append(rule);
  reveal(rule);
  rule.querySelector("textarea").focus();
}

function addExample(button) {
  const rows = [...button.closest("[data-rule]").querySelectorAll("[data-example]")];
  const last = rows.at(-1);
  const row = last.cloneNode(true);
  const [from, to] = [Number(last.dataset.example), Number(last.dataset.example) + 1];
  row.dataset.example = to;
  for (const element of row.querySelectorAll("*")) {
    renumber(element, `-example-${from}-`, `-example-${to}-`);
    renumber(element, `-examples-${from}-`, `-examples-${to}-`);
    if (element.matches("textarea")) element.value = "";
  }
  last.after(row);
  row.querySelector("textarea").focus();
}

function move(rule, direction) {
  const other = direction === "up" ? rule.previousElementSibling : rule.nextElementSibling;
  if (!other?.matches("[data-rule]")) return;
  if (direction === "up") other.before(rule);
  else other.after(rule);
  rule.querySelector(`[data-move=${direction}]`).focus();
  changed();
}

// a folded rule says what it holds while that is being written
function tell(rule) {
  const line = rule.querySelector(".rule-line");
  const words = rule.querySelector("[name$='-text']").value.trim();
  if (words) line.textContent = words.slice(0, 200);
}

// Leaving the page waits until the last words are saved. Where they cannot be, it says why and
// stays; whoever leaves by another way is asked first.
function guardLeaving() {
  let [written, sent, saved] = [0, 0, 0];
  let next = "";
  const note = () => {
    written += 1;
  };
  form.addEventListener("input", note);
  form.addEventListener("parapet:changed", note);
  form.addEventListener("submit", () => {
    saved = written;
  });
  form.addEventListener("htmx:beforeRequest", () => {
    sent = written;
  });
  form.addEventListener("htmx:sendError", () => {
    next = "";
  });
  form.addEventListener("htmx:afterRequest", (event) => {
    if (!event.detail.xhr.status) return; // given up for a newer one, or the network is away
    const problem = document.querySelector("#difference .notice-bad");
    if (event.detail.successful && !problem) {
      saved = sent;
      if (next && saved === written) location.assign(next);
    } else if (next) {
      next = "";
      problem?.scrollIntoView({ block: "center" });
    }
  });
  for (const link of document.querySelectorAll("#policy-actions a")) {
    link.addEventListener("click", (event) => {
      if (saved === written || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      next = link.href;
      changed();
    });
  }
  addEventListener("beforeunload", (event) => {
    if (saved !== written && !next) event.preventDefault();
  });
}

if (form) {
  reveal(form);
  guardLeaving();
  form.addEventListener("input", (event) => {
    const rule = event.target.closest("[data-rule]");
    if (rule) tell(rule);
  });
  form.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const rule = button.closest("[data-rule]");
    if (button.dataset.addRule !== undefined) {
      event.preventDefault();
      addRule();
    } else if (button.dataset.addExample !== undefined) addExample(button);
    else if (button.dataset.removeRule !== undefined) removeRule(rule);
    else if (button.dataset.move) move(rule, button.dataset.move);
  });
}

// a new policy's short name follows its name until somebody writes it by hand
const named = document.querySelector("[data-slug-from]");
if (named) {
  const from = document.getElementById(named.dataset.slugFrom);
  const to = document.getElementById(named.dataset.slugTo);
  let own = to.value !== "";
  to.addEventListener("input", () => {
    own = true;
  });
  function propose() {
    if (own) return;
    const latin = from.value
      .normalize("NFKD")
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, "-")
      .replace(/^-|-$/g, "")
      .slice(0, 60);
    to.value = latin || (from.value.trim() && "policy");
  }
  from.addEventListener("input", propose);
  propose(); // a name may be written before this file has come
}
