// The theme switch: system, light or dark.
//
// A signed-in person's choice comes with the page (data-theme on <html>) and is posted to the
// address in data-preferences; for others localStorage keeps it. base.html loads this file with
// blocking="render", so that the choice is there before the first paint.

const KEY = "parapet-theme";
const root = document.documentElement;

function stored() {
  try {
    return localStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

function store(theme) {
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // a browser that keeps nothing still switches this page
  }
}

function apply(theme) {
  root.dataset.theme = theme === "light" || theme === "dark" ? theme : "";
  for (const button of document.querySelectorAll("[data-theme-choice]")) {
    button.setAttribute("aria-pressed", String(button.dataset.themeChoice === root.dataset.theme));
  }
}

async function post(theme) {
  if (!root.dataset.preferences) return;
  const token = document.querySelector('meta[name="csrf-token"]')?.content ?? "";
  try {
    await fetch(root.dataset.preferences, {
      method: "POST",
      headers: { "X-CSRFToken": token },
      body: new URLSearchParams({ theme }),
    });
  } catch {
    // the page has changed already; the next choice posts again
  }
}

function start() {
  apply(root.dataset.theme);
  for (const part of document.querySelectorAll("[data-theme-switch]")) part.hidden = false;
}

root.dataset.js = "";
if (root.dataset.preferences === undefined) apply(stored());
else store(root.dataset.theme ?? "");

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-theme-choice]");
  if (!button) return;
  const theme = button.dataset.themeChoice;
  apply(theme);
  store(theme);
  post(theme);
  document.dispatchEvent(new CustomEvent("parapet:theme"));
});

addEventListener("storage", (event) => {
  if (event.key !== KEY) return;
  apply(event.newValue ?? "");
  document.dispatchEvent(new CustomEvent("parapet:theme"));
});
