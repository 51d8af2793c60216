"use strict";
const root = document.documentElement;
root.classList.add("js");

// Light and dark: the system's choice until the button says otherwise.
const stored = key => { try { return localStorage.getItem(key); } catch { return null; } };
const isDark = matchMedia("(prefers-color-scheme: dark)");
const showTheme = () => { root.dataset.theme = stored("theme") || (isDark.matches ? "dark" : "light"); };
showTheme();
isDark.addEventListener("change", showTheme);
document.getElementById("theme").addEventListener("click", () => {
  const next = root.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.setItem("theme", next); } catch { /* a page from a file may have no storage */ }
  root.dataset.theme = next;
});

// One chart over several axes.
for (const choice of document.querySelectorAll(".choice")) {
  const figures = choice.closest(".panel").querySelectorAll("figure");
  [...choice.children].forEach((button, index) => button.addEventListener("click", () => {
    [...choice.children].forEach((one, other) => one.classList.toggle("on", other === index));
    figures.forEach((one, other) => one.classList.toggle("other", other !== index));
  }));
}

// Tables sort by the column that is clicked; what has no number comes last.
for (const head of document.querySelectorAll("th")) {
  head.querySelector("button").addEventListener("click", () => {
    const body = head.closest("table").tBodies[0];
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const one of head.parentNode.children) one.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = row => {
      const cell = row.cells[head.cellIndex];
      return cell.dataset.key === undefined ? cell.textContent : Number(cell.dataset.key === "inf" ? "Infinity" : cell.dataset.key);
    };
    const order = (a, b) => typeof a === "number" && typeof b === "number"
      ? (a === b ? 0 : !isFinite(a) ? 1 : !isFinite(b) ? -1 : up ? a - b : b - a)
      : (up ? 1 : -1) * String(a).localeCompare(String(b), undefined, { numeric: true });
    [...body.rows].map(row => [key(row), row]).sort((a, b) => order(a[0], b[0])).forEach(pair => body.append(pair[1]));
  });
}

// Values under the pointer at once; without this script the browser shows the same titles after a moment.
const tip = document.getElementById("tip");
for (const hit of document.querySelectorAll(".hit")) {
  const title = hit.querySelector("title");
  hit.dataset.told = title.textContent;
  title.remove();
}
document.addEventListener("pointermove", event => {
  const told = event.target.dataset && event.target.dataset.told;
  tip.hidden = !told;
  if (!told) return;
  tip.textContent = told;
  const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
  const top = event.clientY + 16 + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 10 : event.clientY + 16;
  tip.style.left = Math.max(8, left) + "px";
  tip.style.top = top + "px";
});
document.addEventListener("pointerdown", event => document.dispatchEvent(new PointerEvent("pointermove", event)));

if (document.body.dataset.reload) setTimeout(() => location.reload(), 1000 * document.body.dataset.reload);
