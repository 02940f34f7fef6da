"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const root = document.documentElement;

  // Theme: the system's, until somebody chooses.
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  const paint = () => { root.dataset.theme = chosen ?? (dark.matches ? "dark" : "light"); };
  dark.addEventListener("change", paint);
  byId("theme").addEventListener("click", () => {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    paint();
  });
  paint();

  // Downloads of the data in this page.
  const download = (id, name, type, text) => byId(id)?.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text()], { type }));
    link.download = name;
    link.click();
    URL.revokeObjectURL(link.href);
  });
  download("get-json", "results.json", "application/json", () => JSON.stringify(data.results, null, 1));
  download("get-csv", "results.csv", "text/csv", () => JSON.parse(byId("csv").textContent));

  // Methods shown.
  const hidden = new Set();
  for (const box of all(".legend input")) {
    box.addEventListener("change", () => {
      hidden[box.checked ? "delete" : "add"](box.value);
      for (const part of all("[data-method]")) part.classList.toggle("off", hidden.has(part.dataset.method));
    });
  }

  // One of several charts of a figure, chosen by buttons.
  for (const figure of all("figure")) {
    const buttons = all("[data-choose]", figure);
    const choose = (value) => {
      for (const chart of all("[data-choice]", figure)) chart.classList.toggle("off", chart.dataset.choice !== value);
      for (const button of buttons) button.setAttribute("aria-pressed", button.dataset.choose === value);
    };
    for (const button of buttons) button.addEventListener("click", () => choose(button.dataset.choose));
    if (buttons.length) choose(buttons[0].dataset.choose);
  }

  // Tables sort by the column that is clicked.
  for (const table of all("table")) {
    const heads = all("th", table), body = table.tBodies[0];
    heads.forEach((head, column) => head.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.value;
      const compare = (a, b) => {
        const [x, y] = [key(a), key(b)];
        return isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      };
      const rows = [...body.rows].sort((a, b) => (down ? -1 : 1) * compare(a, b));
      body.append(...rows);
    }));
  }

  // Tips.
  const tip = byId("tip");
  const place = (x, y) => {
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(x + 14, innerWidth - width - 8))}px`;
    tip.style.top = `${y + 18 + height > innerHeight ? y - height - 12 : y + 18}px`;
  };
  const hide = () => { tip.hidden = true; };
  for (const mark of all("[data-tip]")) {
    mark.addEventListener("pointermove", (event) => {
      tip.textContent = mark.dataset.tip;
      place(event.clientX, event.clientY);
    });
    mark.addEventListener("focus", () => {
      const box = mark.getBoundingClientRect();
      tip.textContent = mark.dataset.tip;
      place(box.right, box.bottom);
    });
    mark.addEventListener("pointerleave", hide);
    mark.addEventListener("blur", hide);
  }

  // A panel of curves tells all methods' values at the step that is pointed at.
  const runs = Object.fromEntries((data.results.runs ?? []).map((run) => [run.run, run]));
  const nearest = (curve, column, step) => {
    let best = null, distance = Infinity;
    curve.step.forEach((at, index) => {
      if (curve[column][index] !== null && Math.abs(at - step) < distance) {
        distance = Math.abs(at - step);
        best = curve[column][index];
      }
    });
    return best;
  };
  const shown = (column, value) =>
    column === "sparsity" ? `${(100 * value).toFixed(2)}%`
      : column.endsWith("eer_percent") ? `${value.toFixed(2)}%` : String(Number(value.toPrecision(4)));
  for (const panel of all("svg.panel")) {
    const { quantity, left, right, last } = panel.dataset;
    const cursor = panel.querySelector(".cursor");
    panel.addEventListener("pointermove", (event) => {
      const box = panel.getBoundingClientRect(), scale = panel.viewBox.baseVal.width / box.width;
      const x = Math.min(Math.max((event.clientX - box.left) * scale, +left), +right);
      const step = (x - left) / (right - left) * last;
      const lines = new Map();
      for (const name of JSON.parse(panel.dataset.runs)) {
        const method = runs[name].method, value = nearest(runs[name].curves, quantity, step);
        if (value !== null && !hidden.has(method)) lines.set(method, [...(lines.get(method) ?? []), value]);
      }
      tip.replaceChildren(`step ${Math.round(step)}`);
      for (const [method, values] of lines) {
        const key = document.createElement("span");
        key.className = "key";
        key.style.setProperty("--c", panel.querySelector(`[data-method="${method}"]`).style.getPropertyValue("--c"));
        const mean = values.reduce((sum, value) => sum + value) / values.length;
        tip.append("\n", key, `${method} ${shown(quantity, mean)}`);
      }
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
      cursor.style.visibility = "visible";
      place(event.clientX, event.clientY);
    });
    panel.addEventListener("pointerleave", () => { hide(); cursor.style.visibility = "hidden"; });
  }
})();
