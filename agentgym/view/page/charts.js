// Curves: drawn at the width they have, redrawn when it changes or a line is hidden.

const BOX = {left: 46, right: 12, top: 10, bottom: 24};
const SMOOTH_FROM = 40; // points from which a training curve gets a running mean; the raw one stays behind it

function chartLines(spec) {
  return spec.lines.map(([phase, metric, label], i) => {
    const {x, y} = D.series[phase];
    const sparse = phase === "evaluation";
    const values = y[metric];
    return {label, x, values, sparse, index: i, shown: true, mean: sparse || x.length < SMOOTH_FROM ? null : runningMean(values)};
  });
}

function runningMean(values) {
  const reach = Math.max(2, Math.round(values.length / 40));
  return values.map((_, i) => {
    const near = values.slice(Math.max(0, i - reach), i + reach + 1).filter(v => v != null);
    return near.length ? near.reduce((a, b) => a + b, 0) / near.length : null;
  });
}

function extent(lists) {
  let low = Infinity, high = -Infinity;
  for (const list of lists) for (const v of list) if (v != null) { low = Math.min(low, v); high = Math.max(high, v); }
  return low <= high ? [low, high] : [0, 1];
}

function ticks(low, high, wanted) {
  const rough = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map(k => k * power).find(s => s >= rough * .999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(Number((k * step).toPrecision(12)));
  return found;
}

function scales(lines, band, unit, width, height) {
  let [x0, x1] = extent(lines.map(line => line.x));
  if (x0 === x1) [x0, x1] = [x0 - 1, x1 + 1];
  let [y0, y1] = unit ? [0, 1] : extent([...lines.map(line => line.values), ...band]);
  if (!unit) {
    if (y0 > 0 && y0 < .45 * y1) y0 = 0;
    if (y1 < 0 && y1 > .45 * y0) y1 = 0;
    const room = (y1 - y0 || Math.abs(y1) || 1) * .06;
    [y0, y1] = [y0 === 0 ? 0 : y0 - room, y1 === 0 && y0 < 0 ? 0 : y1 + room];
  }
  const w = width - BOX.left - BOX.right, h = height - BOX.top - BOX.bottom;
  return {
    x0, x1, y0, y1, width, height,
    X: x => BOX.left + (x - x0) / (x1 - x0) * w,
    Y: y => BOX.top + (y1 - y) / (y1 - y0) * h,
    step: pixel => x0 + (pixel - BOX.left) / w * (x1 - x0),
  };
}

// A gap in the values is a gap in the line; a point alone between gaps is drawn as a short dash.
function pathOf(x, values, {X, Y}) {
  let d = "", pen = false;
  values.forEach((v, i) => {
    if (v == null) { pen = false; return; }
    d += `${pen ? "L" : "M"}${X(x[i]).toFixed(1)},${Y(v).toFixed(1)}`;
    if (!pen && values[i + 1] == null) d += "h.1";
    pen = true;
  });
  return d;
}

function areaOf(x, low, high, {X, Y}) {
  const at = x.map((_, i) => i).filter(i => low[i] != null && high[i] != null);
  const there = at.map(i => `${X(x[i]).toFixed(1)},${Y(high[i]).toFixed(1)}`);
  const back = at.reverse().map(i => `${X(x[i]).toFixed(1)},${Y(low[i]).toFixed(1)}`);
  return at.length > 1 ? `M${[...there, ...back].join("L")}Z` : "";
}

function frame(s) {
  const g = svg("g");
  for (const v of ticks(s.y0, s.y1, s.height > 300 ? 8 : 4)) {
    const y = s.Y(v);
    g.append(svg("line", {x1: BOX.left, x2: s.width - BOX.right, y1: y, y2: y, class: v === 0 && s.y0 < 0 ? "zero" : "grid"}));
    g.append(svg("text", {x: BOX.left - 7, y: y + 4, "text-anchor": "end", class: "tick", text: fmt(v, 4)}));
  }
  for (const v of ticks(s.x0, s.x1, Math.max(2, s.width / 90))) {
    if (!Number.isInteger(v)) continue;
    g.append(svg("text", {x: s.X(v), y: s.height - 6, "text-anchor": "middle", class: "tick", text: fmt(v, 0)}));
  }
  if (s.x0 < 0 && s.x1 > 0) g.append(svg("line", {x1: s.X(0), x2: s.X(0), y1: BOX.top, y2: s.height - BOX.bottom, class: "zero"}));
  return g;
}

function lineNodes(line, s) {
  const paint = {"--c": colour(line.index)};
  const dashed = line.index >= 8 ? " dashed" : "";
  const nodes = [];
  if (line.mean) nodes.push(svg("path", {d: pathOf(line.x, line.values, s), class: "line raw", ...paint}));
  nodes.push(svg("path", {d: pathOf(line.x, line.mean || line.values, s), class: `line${dashed}`, ...paint}));
  const alone = i => line.values[i - 1] == null && line.values[i + 1] == null; // no stretch of the path shows it
  line.values.forEach((v, i) => {
    if (v != null && (line.sparse || alone(i))) nodes.push(svg("circle", {cx: s.X(line.x[i]), cy: s.Y(v), r: line.sparse ? 3 : 2, class: "dot", ...paint}));
  });
  return nodes;
}

function drawChart(spec) {
  const lines = chartLines(spec);
  const band = spec.band ? spec.band.map(name => D.series.evaluation.y[name]) : [];
  const plot = el("div", {class: "plot"}), tip = el("div", {class: "tip", hidden: true});
  let s = null, cursor = null;

  function redraw() {
    const shown = lines.filter(line => line.shown);
    s = scales(shown.length ? shown : lines, lines[0].shown ? band : [], spec.unit, Math.max(180, plot.clientWidth), plot.clientHeight || 190);
    cursor = svg("line", {y1: BOX.top, y2: s.height - BOX.bottom, class: "zero", visibility: "hidden"});
    const parts = [frame(s), cursor];
    if (band.length && lines[0].shown) parts.push(svg("path", {d: areaOf(lines[0].x, ...band, s), class: "area", "--c": colour(0)}));
    for (const line of [...shown].reverse()) parts.push(...lineNodes(line, s));
    plot.replaceChildren(svg("svg", {width: s.width, height: s.height, role: "img", "aria-label": spec.title}, ...parts));
  }

  function point(event) {
    if (!s) return;
    const box = plot.getBoundingClientRect(), wanted = s.step(event.clientX - box.left);
    const near = lines.filter(line => line.shown).map(line => [line, nearest(line, wanted)]).filter(([, i]) => i >= 0);
    if (!near.length) return leave();
    const step = near.map(([line, i]) => line.x[i]).reduce((a, b) => Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a);
    cursor.setAttribute("x1", s.X(step)); cursor.setAttribute("x2", s.X(step)); cursor.setAttribute("visibility", "visible");
    // Only lines with a point about here speak: an evaluation 20 steps away is not the value of this step.
    const reach = Math.max(1, (s.x1 - s.x0) / 50);
    const rows = near.filter(([line, i]) => Math.abs(line.x[i] - step) <= reach).map(([line, i]) =>
      el("div", {"--c": colour(line.index)}, el("i"), line.label, el("b", {class: "num", text: fmt(line.values[i], 4)})));
    tip.replaceChildren(el("div", {}, step < 0 ? `warm start, ${fmt(-step, 0)} steps before` : `step ${fmt(step, 0)}`), ...rows);
    tip.hidden = false;
    const right = s.X(step) > s.width / 2;
    tip.style.top = `${plot.offsetTop + 6}px`;
    tip.style.left = right ? "auto" : `${plot.offsetLeft + s.X(step) + 10}px`;
    tip.style.right = right ? `${plot.parentNode.clientWidth - plot.offsetLeft - s.X(step) + 10}px` : "auto";
  }

  function leave() {
    tip.hidden = true;
    if (cursor) cursor.setAttribute("visibility", "hidden");
  }

  plot.addEventListener("pointermove", point);
  plot.addEventListener("pointerleave", leave);
  new ResizeObserver(redraw).observe(plot);
  const card = el("article", {class: "card chart"},
    el("header", {}, el("h4", {text: spec.title}), el("button", {type: "button", title: "large or small", "aria-label": `${spec.title}: large or small`, text: "⤢", onclick: () => card.classList.toggle("full")})),
    legend(lines, redraw, spec.named), plot, tip, el("p", {text: spec.note}));
  return card;
}

function nearest(line, wanted) {
  let best = -1;
  line.x.forEach((x, i) => { if (line.values[i] != null && (best < 0 || Math.abs(x - wanted) < Math.abs(line.x[best] - wanted))) best = i; });
  return best;
}

function legend(lines, redraw, named) {
  if (lines.length === 1 && !named && !lines[0].label.includes("task")) return el("div", {class: "legend"});
  return el("div", {class: "legend"}, ...lines.map(line => {
    const button = el("button", {type: "button", "aria-pressed": "true", title: "show or hide", "--c": colour(line.index)}, el("i"), line.label);
    button.addEventListener("click", () => {
      line.shown = !line.shown;
      button.setAttribute("aria-pressed", String(line.shown));
      redraw();
    });
    return button;
  }));
}

function showCurves() {
  if (!D.charts.length) return;
  const home = $("curves");
  home.hidden = false;
  const thinned = Object.values(D.series).some(phase => phase.stretch > 1);
  home.append(el("h2", {text: "Curves"}), el("p", {class: "note", text:
    "Learner steps run along each axis; a step below 0 is one of the warm start. Faint lines are the values, strong ones their running mean. "
    + "Point at a curve to read it, click a name to hide its line." + (thinned ? " Long curves are means of equal stretches of steps." : "")}));
  for (const section of new Set(D.charts.map(chart => chart.section))) {
    const specs = D.charts.filter(chart => chart.section === section);
    const cards = specs.map(drawChart);
    // Rows without a hole: the first chart of all is twice as wide; four stand in a row, two over are wider.
    const wide = specs[0].title === "Success" && specs.length > 1, places = specs.length + (wide ? 1 : 0);
    if (wide) cards[0].classList.add("wide");
    else if (places % 4 === 0) cards.forEach(card => card.classList.add("quarter"));
    if (places % 4 && places % 3 === 2) cards.slice(-2).forEach(card => card !== cards[0] && card.classList.add("half"));
    home.append(el("h3", {text: section}), el("div", {class: "charts"}, ...cards));
  }
}

function sparkline(values) {
  const width = 120, height = 24, [low, high] = extent([values]);
  const at = {X: i => 1 + i / Math.max(1, values.length - 1) * (width - 2), Y: v => high === low ? height / 2 : 2 + (high - v) / (high - low) * (height - 4)};
  const mean = values.length < SMOOTH_FROM ? values : runningMean(values);
  return svg("svg", {width, height, "aria-hidden": "true"}, svg("path", {d: pathOf(values.map((_, i) => i), mean, at), class: "line", "--c": colour(0)}));
}
