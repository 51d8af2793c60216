// As much of a browser as report.js asks for: a table, a panel of two figures, the button of light and dark.
"use strict";
const make = (name, content = {}) => {
  const classes = new Set(), acts = {}, attributes = {};
  const made = {
    children: [], dataset: {}, style: {}, ...content,
    classList: { add: one => classes.add(one), toggle: (one, on) => (on ? classes.add(one) : classes.delete(one)) },
    has: one => classes.has(one),
    addEventListener: (kind, act) => { acts[kind] = act; },
    click: () => acts.click(),
    getAttribute: one => attributes[one] ?? null,
    setAttribute: (one, value) => { attributes[one] = value; },
    removeAttribute: one => { delete attributes[one]; },
  };
  return Object.assign(made, { querySelector: () => made.children[0] });
};

const rows = JSON.parse(process.argv[2]).map(cells => make("tr", {
  cells: cells.map(([textContent, key]) => ({ textContent, dataset: key === null ? {} : { key } })),
}));
const body = { rows, append: row => rows.push(rows.splice(rows.indexOf(row), 1)[0]) };
const line = { children: [] };
const heads = [0, 1].map(cellIndex => make("th", {
  cellIndex, parentNode: line, children: [make("button")], closest: () => ({ tBodies: [body] }),
}));
line.children = heads;
const figures = [make("figure"), make("figure")];
const choice = make("span", {
  children: [make("button"), make("button")], closest: () => ({ querySelectorAll: () => figures }),
});
const theme = make("button"), kept = {};
const found = { ".choice": [choice], th: heads, ".hit": [] };
globalThis.document = {
  documentElement: make("html"), body: make("body"), addEventListener: () => {},
  getElementById: id => (id === "theme" ? theme : make("p")), querySelectorAll: one => found[one],
};
globalThis.localStorage = { getItem: key => kept[key] ?? null, setItem: (key, value) => { kept[key] = value; } };
globalThis.matchMedia = () => ({ matches: false, addEventListener: () => {} });
require(process.argv[3]);

const shown = () => rows.map(row => row.cells[0].textContent);
const told = { sorted: [], figures: [], themes: [] };
for (const head of [1, 1, 0]) { heads[head].children[0].click(); told.sorted.push(shown()); }
told.marks = heads.map(head => head.getAttribute("aria-sort"));
for (const one of [1, 0]) { choice.children[one].click(); told.figures.push(figures.map(figure => !figure.has("other"))); }
for (let count = 0; count < 2; count += 1) { theme.click(); told.themes.push([document.documentElement.dataset.theme, kept.theme]); }
console.log(JSON.stringify(told));
