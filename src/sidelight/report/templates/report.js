"use strict";
// Tables sort by a click on a column's head, rows of controls stay below their method. The page is complete without.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0], blocks = [];
  for (const row of body.rows) {
    if (row.classList.contains("control") && blocks.length) blocks[blocks.length - 1].push(row);
    else blocks.push([row]);
  }
  const given = [...blocks];
  const read = (row, column) => {
    const cell = row.cells[column];
    return column === 0 ? cell.textContent : Number.parseFloat(cell.dataset.value);
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const next = { descending: "ascending", ascending: "none" }[head.ariaSort] ?? "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (next !== "none") head.ariaSort = next;
      const way = next === "ascending" ? 1 : -1;
      const sorted = next === "none" ? given : [...blocks].sort(([a], [b]) => {
        const [x, y] = [read(a, column), read(b, column)];
        if (column === 0) return way * x.localeCompare(y);
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return way * (x - y);
      });
      body.append(...sorted.flat());
    });
  });
}
// Matrices over epochs: one at a time, chosen with a slider.
for (const box of document.querySelectorAll(".epochs")) {
  const figures = [...box.children];
  if (figures.length < 2) continue;
  const label = document.createElement("label"), slider = document.createElement("input");
  const kept = Math.max(0, figures.findIndex((figure) => figure.classList.contains("kept")));
  Object.assign(slider, { type: "range", min: 0, max: figures.length - 1, step: 1, value: kept });
  slider.setAttribute("aria-label", "Epoch of the student’s matrix");
  const show = () => {
    figures.forEach((figure, k) => figure.classList.toggle("away", k !== Number(slider.value)));
    slider.setAttribute("aria-valuetext", figures[slider.value].querySelector("figcaption").textContent);
  };
  slider.addEventListener("input", show);
  label.className = "slider";
  label.append("Epochs ", slider);
  box.before(label);
  box.classList.add("one");
  show();
}
// Paper shows what is folded away.
const opened = [];
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details:not([open])")) {
    folded.open = true;
    opened.push(folded);
  }
});
addEventListener("afterprint", () => {
  for (const folded of opened.splice(0)) folded.open = false;
});
