"use strict";
(() => {
  const plots = JSON.parse(document.getElementById("plots").textContent);
  const csvs = JSON.parse(document.getElementById("csvs").textContent);
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const sections = [...document.querySelectorAll("main > section")];
  const form = document.querySelector(".filters");
  document.documentElement.classList.add("js");

  // a figure is drawn when its tab is first shown: a hidden element has no width
  const draw = (place) => {
    const plot = plots[place.dataset.plot];
    if (!plot || place.dataset.drawn) return;
    place.dataset.drawn = "1";
    place.replaceChildren();
    // Plotly modifies the traces it is given
    plot.visible = plot.data.map((trace) => trace.visible ?? true);
    const layout = { ...plot.layout, autosize: true };
    // on a phone every entry of the legend takes a line, for which the figure grows
    const entries = plot.data.filter((trace) => trace.name && trace.showlegend !== false).length;
    if (place.clientWidth < 560 && entries > 1 && layout.showlegend !== false) {
      layout.height += 19 * entries;
      place.style.height = layout.height + "px";
    }
    Plotly.newPlot(place, plot.data, layout, { responsive: true, displaylogo: false });
    pick(place);
  };
  const drawIn = (root) => root.querySelectorAll(".plot").forEach((place) => {
    if (!place.closest("[hidden]")) draw(place);
  });

  const methods = () => {
    const boxes = form ? [...form.querySelectorAll("[name=method]")] : [];
    return boxes.length ? new Set(boxes.filter((box) => box.checked).map((box) => box.value)) : null;
  };
  const pick = (place) => {
    const kept = methods();
    const { data: traces, visible } = plots[place.dataset.plot];
    if (!kept || !place.dataset.drawn || !traces.some((trace) => trace.meta && trace.meta.method)) return;
    const seen = traces.map((trace, place) =>
      trace.meta && trace.meta.method && !kept.has(trace.meta.method) ? false : visible[place]);
    Plotly.restyle(place, { visible: seen });
  };

  const filter = () => {
    const wanted = [...form.querySelectorAll("select")].filter((select) => select.value);
    document.querySelectorAll("article").forEach((article) => {
      article.hidden = wanted.some(
        (select) => article.dataset[select.name] !== undefined && article.dataset[select.name] !== select.value);
    });
    const kept = methods();
    if (kept) document.querySelectorAll("tr[data-method]").forEach((row) => {
      row.hidden = !kept.has(row.dataset.method);
    });
    document.querySelectorAll(".plot").forEach(pick);
    drawIn(document.querySelector("section.shown"));
  };

  const show = (key) => {
    const found = sections.find((section) => section.id === key) || sections[0];
    sections.forEach((section) => section.classList.toggle("shown", section === found));
    tabs.forEach((tab) => {
      const chosen = tab.getAttribute("aria-controls") === found.id;
      tab.setAttribute("aria-selected", chosen);
      tab.tabIndex = chosen ? 0 : -1;
    });
    drawIn(found);
  };
  const follow = () => {
    const name = decodeURIComponent(location.hash.slice(1));
    const target = name && document.getElementById(name);
    const section = target && target.closest("section");
    show(section ? section.id : name);
    if (target && target !== section) target.scrollIntoView();
  };

  tabs.forEach((tab, place) => {
    tab.addEventListener("click", () => {
      history.replaceState(null, "", "#" + tab.getAttribute("aria-controls"));
      show(tab.getAttribute("aria-controls"));
    });
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs[(place + step + tabs.length) % tabs.length];
      next.focus();
      next.click();
    });
  });
  if (form) {
    form.addEventListener("change", filter);
    form.querySelectorAll("[data-all]").forEach((button) => button.addEventListener("click", () => {
      form.querySelectorAll("[name=method]").forEach((box) => { box.checked = Boolean(button.dataset.all); });
      filter();
    }));
  }
  document.querySelectorAll("[data-csv]").forEach((link) => link.addEventListener("click", () => {
    link.href = URL.createObjectURL(new Blob([csvs[link.dataset.csv]], { type: "text/csv" }));
  }));
  document.querySelectorAll("thead th").forEach((head) => head.addEventListener("click", () => {
    const column = head.cellIndex;
    const body = head.closest("table").tBodies[0];
    const down = head.getAttribute("aria-sort") === "ascending";
    head.parentNode.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const collator = new Intl.Collator("en", { numeric: true });
    const text = (row) => row.cells[column].textContent.trim();
    const compare = (a, b) => {
      const [x, y] = [a, b].map((row) => parseFloat(text(row).replaceAll(",", "")));
      return Number.isNaN(x) || Number.isNaN(y) ? collator.compare(text(a), text(b)) : x - y;
    };
    body.append(...[...body.rows].sort((a, b) => (down ? -1 : 1) * compare(a, b)));
  }));
  window.addEventListener("hashchange", follow);
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll(".facts").forEach((facts) => { facts.open = true; });
    // by then sections are laid out for print, so every figure has a width
    sections.forEach((section) => section.classList.add("shown"));
    sections.forEach(drawIn);
  });
  window.addEventListener("afterprint", follow);
  follow();
})();
