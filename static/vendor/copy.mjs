// Copies the pinned browser libraries here and writes SHA256SUMS.
//
//   npm ci --ignore-scripts && npm run copy   (then remove node_modules again)
//
// The source map comments go: the maps are not shipped, and the hashed static storage would look
// for them.
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const FILES = {
  "htmx.min.js": "htmx.org/dist/htmx.min.js",
  "chart.umd.min.js": "chart.js/dist/chart.umd.min.js",
  "htmx.LICENSE": "htmx.org/LICENSE",
  "chart.LICENSE": "chart.js/LICENSE.md",
};

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

let sums = "";
for (const [name, source] of Object.entries(FILES)) {
  const text = readFileSync(here(`node_modules/${source}`), "utf8")
    .replace(/^\s*\/\/# sourceMappingURL=.*$/gm, "")
    .trimEnd();
  writeFileSync(here(name), `${text}\n`);
  sums += `${createHash("sha256").update(`${text}\n`).digest("hex")}  ${name}\n`;
}
writeFileSync(here("SHA256SUMS"), sums);
