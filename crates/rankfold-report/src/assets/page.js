(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("scripted");

  // What shows on pointing: the titles of marks, near the pointer instead of a second later.
  const box = document.createElement("div");
  box.id = "tip";
  box.hidden = true;
  box.setAttribute("role", "status");
  document.body.append(box);
  for (const mark of document.querySelectorAll(".tip")) {
    const title = mark.querySelector("title");
    mark.dataset.tip = title.textContent;
    title.remove();
  }
  const show = (event) => {
    const mark = event.target instanceof Element && event.target.closest(".tip");
    box.hidden = !mark;
    if (!mark) return;
    box.textContent = mark.dataset.tip;
    const room = root.clientWidth;
    const left = Math.min(event.clientX + 12, room - box.offsetWidth - 8);
    const above = event.clientY - box.offsetHeight - 12;
    box.style.left = `${Math.max(8, left) + window.scrollX}px`;
    box.style.top = `${(above < 4 ? event.clientY + 18 : above) + window.scrollY}px`;
  };
  for (const kind of ["pointermove", "pointerdown"]) document.addEventListener(kind, show);
  root.addEventListener("pointerleave", () => { box.hidden = true; });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") box.hidden = true; });

  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const order = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        // Numbers start with the largest, names with the first; a third click gives the network's own order.
        const first = head.classList.contains("n") ? "descending" : "ascending";
        const second = first === "ascending" ? "descending" : "ascending";
        const now = head.getAttribute("aria-sort");
        const next = now === first ? second : now === second ? null : first;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        let rows = order;
        if (next) {
          head.setAttribute("aria-sort", next);
          const sign = next === "ascending" ? 1 : -1;
          rows = [...order].sort((a, b) => {
            const [x, y] = [value(a, column), value(b, column)];
            return sign * (typeof x === "number" ? x - y : x.localeCompare(y, "en", { numeric: true }));
          });
        }
        body.append(...rows);
      });
    });
  }
})();
