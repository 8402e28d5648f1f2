"use strict";
(function () {
  const canvas = document.getElementById("umap-canvas");
  if (!canvas) { return; }
  const stored = JSON.parse(document.getElementById("umap-data").textContent);

  function decoded(text, Kind) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return new Kind(bytes.buffer);
  }

  const x = decoded(stored.x, Float32Array), y = decoded(stored.y, Float32Array);
  const id = decoded(stored.id, BigInt64Array), n = x.length;
  const colourings = stored.colourings.map((each) => ({...each, label: decoded(each.label, Int16Array)}));
  let label, groups, order;  // of the colours shown: label of each dot, {label, name, colour, count}, the unassigned lowest
  const hidden = new Set(), selected = new Uint8Array(n);
  const PAD = 24, NEAR_PX = 8;
  let scale = 1, left = 0, top = 0, mode = "select", path = [], drag = null, nSelected = 0;
  const info = document.getElementById("umap-info"), hover = document.getElementById("umap-hover");

  const toX = (value) => (value - left) * scale, toY = (value) => canvas.clientHeight - (value - top) * scale;
  const fromX = (px) => px / scale + left, fromY = (px) => (canvas.clientHeight - px) / scale + top;

  function fit() {
    let lowX = Infinity, highX = -Infinity, lowY = Infinity, highY = -Infinity;
    for (let i = 0; i < n; i++) {
      lowX = Math.min(lowX, x[i]); highX = Math.max(highX, x[i]);
      lowY = Math.min(lowY, y[i]); highY = Math.max(highY, y[i]);
    }
    const wide = canvas.clientWidth, high = canvas.clientHeight;
    scale = Math.min((wide - 2 * PAD) / ((highX - lowX) || 1), (high - 2 * PAD) / ((highY - lowY) || 1));
    left = (lowX + highX) / 2 - wide / 2 / scale;
    top = (lowY + highY) / 2 - high / 2 / scale;
    draw();
  }

  function draw() {
    const ratio = window.devicePixelRatio || 1, wide = canvas.clientWidth, high = canvas.clientHeight;
    canvas.width = Math.round(wide * ratio); canvas.height = Math.round(high * ratio);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, wide, high);
    const size = Math.max(1.2, Math.min(5, 160 / Math.sqrt(n)));
    for (const group of order) {
      if (hidden.has(group.label)) { continue; }
      context.fillStyle = group.colour;
      for (const chosen of nSelected ? [0, 1] : [0]) {
        context.globalAlpha = nSelected && !chosen ? 0.18 : 0.8;
        for (let i = 0; i < n; i++) {
          if (label[i] !== group.label || (nSelected && selected[i] !== chosen)) { continue; }
          context.fillRect(toX(x[i]) - size / 2, toY(y[i]) - size / 2, size, size);
        }
      }
    }
    context.globalAlpha = 1;
    if (path.length > 1) {
      context.strokeStyle = "#111"; context.setLineDash([5, 3]);
      context.beginPath();
      path.forEach(([px, py], i) => i ? context.lineTo(px, py) : context.moveTo(px, py));
      context.closePath(); context.stroke(); context.setLineDash([]);
    }
  }

  function inside(px, py) {
    let within = false;
    for (let i = 0, j = path.length - 1; i < path.length; j = i++) {
      const [ax, ay] = path[i], [bx, by] = path[j];
      if ((ay > py) !== (by > py) && px < (bx - ax) * (py - ay) / (by - ay) + ax) { within = !within; }
    }
    return within;
  }

  function count() {
    const per = new Map();
    nSelected = 0;
    for (let i = 0; i < n; i++) {
      if (selected[i]) { nSelected++; per.set(label[i], (per.get(label[i]) || 0) + 1); }
    }
    const parts = groups.filter((g) => per.has(g.label)).map((g) => `${g.name}: ${per.get(g.label)}`);
    info.textContent = nSelected ? `${nSelected} of ${n} particles selected (${parts.join(", ")})` : "Nothing is selected.";
    for (const name of ["umap-save-ids", "umap-save-table", "umap-clear"]) {
      document.getElementById(name).disabled = !nSelected;
    }
    draw();
  }

  function save(name, text) {
    const url = URL.createObjectURL(new Blob([text], {type: "text/plain"}));
    const link = document.createElement("a");
    link.href = url; link.download = name; link.click();
    URL.revokeObjectURL(url);
  }

  function chosenRows(row) {
    const lines = [];
    for (let i = 0; i < n; i++) { if (selected[i]) { lines.push(row(i)); } }
    return lines.join("\n") + "\n";
  }

  function nearest(px, py) {
    let best = -1, closest = NEAR_PX * NEAR_PX;
    for (let i = 0; i < n; i++) {
      if (hidden.has(label[i])) { continue; }
      const dx = toX(x[i]) - px, dy = toY(y[i]) - py, distance = dx * dx + dy * dy;
      if (distance < closest) { closest = distance; best = i; }
    }
    return best;
  }

  canvas.addEventListener("pointerdown", (event) => {
    drag = [event.offsetX, event.offsetY];
    path = mode === "select" ? [drag] : [];
  });
  canvas.addEventListener("pointermove", (event) => {
    const here = [event.offsetX, event.offsetY];
    if (drag && mode === "move") {
      left -= (here[0] - drag[0]) / scale; top += (here[1] - drag[1]) / scale;
      drag = here; draw();
    } else if (drag) {
      path.push(here); draw();
    } else {
      const i = nearest(here[0], here[1]);
      hover.textContent = i < 0 ? "" : `particle ${id[i]}, ${groups.find((g) => g.label === label[i]).name}`;
    }
  });
  window.addEventListener("pointerup", (event) => {
    if (drag && path.length > 2) {
      for (let i = 0; i < n; i++) {
        const within = !hidden.has(label[i]) && inside(toX(x[i]), toY(y[i])) ? 1 : 0;
        selected[i] = event.shiftKey ? selected[i] | within : within;
      }
      path = []; drag = null; count();
    }
    path = []; drag = null;
  });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const at = [fromX(event.offsetX), fromY(event.offsetY)];
    scale *= Math.exp(-event.deltaY / 400);
    left = at[0] - event.offsetX / scale;
    top = at[1] - (canvas.clientHeight - event.offsetY) / scale;
    draw();
  }, {passive: false});

  function button(name, action) { document.getElementById(name).addEventListener("click", action); }
  function setMode(next) {
    mode = next;
    for (const each of ["select", "move"]) {
      document.getElementById("umap-" + each).setAttribute("aria-pressed", String(each === next));
    }
  }
  button("umap-select", () => setMode("select"));
  button("umap-move", () => setMode("move"));
  button("umap-fit", fit);
  button("umap-clear", () => { selected.fill(0); count(); });
  button("umap-save-ids", () => save("particle_ids.txt", chosenRows((i) => id[i])));
  const others = colourings.slice(1);
  button("umap-save-table", () => save("particles.csv",
    ["particle_id", "label", "umap_1", "umap_2", ...others.map((each) => each.name)].join(",") + "\n" +
    chosenRows((i) => [id[i], colourings[0].label[i], x[i], y[i], ...others.map((each) => each.label[i])].join(","))));

  const legend = document.getElementById("umap-legend"), colour = document.getElementById("umap-colour");
  function colourBy(number) {
    ({label, groups} = colourings[number]);
    order = [...groups].sort((a, b) => a.label - b.label);
    hidden.clear(); legend.replaceChildren();
    for (const group of groups) { addToLegend(group); }
    count();
  }
  function addToLegend(group) {
    const row = document.createElement("div"), name = document.createElement("label"), box = document.createElement("input");
    const swatch = document.createElement("span"), all = document.createElement("a");
    box.type = "checkbox"; box.checked = true;
    box.addEventListener("change", () => { box.checked ? hidden.delete(group.label) : hidden.add(group.label); draw(); });
    swatch.className = "swatch"; swatch.style.setProperty("--colour", group.colour);
    name.append(box, " ", swatch, `${group.name} (${group.count})`);
    all.textContent = "select";
    all.addEventListener("click", () => { for (let i = 0; i < n; i++) { selected[i] = label[i] === group.label ? 1 : 0; } count(); });
    row.append(name, all); legend.append(row);
  }
  if (colour) { colour.addEventListener("change", () => colourBy(Number(colour.value))); }
  window.addEventListener("resize", draw);
  setMode("select"); colourBy(0); fit();
}());
