// Puts the page together.

function showHead() {
  document.title = `${D.title} · AgentGym`;
  $("name").textContent = $("title").textContent = D.title;
  $("facts").append(...D.facts.map(text => el("span", {text})));
  $("tiles").append(...D.tiles.map((tile, i) => el("div", {class: `card tile${i === 0 && D.tiles.length > 3 ? " main" : ""}`},
    el("b", {class: "num", text: tile.value}), el("span", {text: tile.label}), tile.interval ? track(tile.interval) : "", el("small", {text: tile.note}))));
}

function track([low, mean, high]) {
  return el("div", {class: "track", title: "0 to 1, with the 95 % interval"}, el("i", {"--from": percent(low), "--to": percent(high)}), el("u", {"--at": percent(mean)}));
}

function notice(title, klass, rows) {
  $("notices").hidden = false;
  $("notices").append(el("div", {class: `card notice ${klass}`}, el("h4", {text: title}), el("ul", {}, ...rows)));
}

function showNotices() {
  if (D.problems.length) notice("Parts of the folder could not be read", "broken", D.problems.map(text => el("li", {}, el("span", {class: "said", text}))));
  const faults = Object.entries(D.faults);
  if (faults.length) notice("Episodes lost to faults", "broken", faults.map(([text, n]) => el("li", {}, el("span", {class: "said", text}), el("span", {class: "when", text: `${fmt(n)} ×`}))));
  if (D.warnings.length) notice("Warnings of the run", "", D.warnings.map(warning => el("li", {}, el("span", {class: "said", text: warning.text}), el("span", {class: "when", text: when(warning)}))));
}

function when({n, phase, first, last}) {
  const times = n > 1 ? `${n} times, ` : "", steps = first === last ? `step ${first}` : `steps ${first} to ${last}`;
  return times + steps + (phase === "train" ? "" : ` (${phase})`);
}

function meter(value, largest) {
  const share = Math.abs(value) / largest / 2;
  return el("div", {class: `meter${value < 0 ? " minus" : ""}`}, el("i", {"--from": percent(value < 0 ? .5 - share : .5), "--size": percent(share)}));
}

function showScores() {
  const parts = [componentTable(), measureTable(), kindTable(), endTable()].filter(Boolean);
  if (!parts.length) return;
  $("scores").hidden = false;
  $("scores").append(el("h2", {text: "Scores"}), el("p", {class: "note", text: "What the components paid an episode on average, and what was measured on held-out tasks."}));
  const whole = D.components.length ? parts.shift() : null;
  $("scores").append(whole || "", el("div", {class: "pair"}, ...parts));
}

function componentTable() {
  if (!D.components.length) return null;
  const largest = Math.max(1e-9, ...D.components.map(row => Math.abs(row.last)));
  const curves = D.components.some(row => row.curve);
  const headings = [["component"], ["what it says"], ...(curves ? [["first steps", true], ["last steps", true]] : [["an episode", true]]), [""], ...(curves ? [["over the run"]] : [])];
  const rows = D.components.map(row => [
    el("span", {class: "key", text: row.name}), el("span", {class: "note", text: row.about}),
    ...(curves ? [pay(row.first), pay(row.last)] : [pay(row.last)]), meter(row.last, largest),
    ...(curves ? [sparkline(D.series.train.y[row.curve])] : []),
  ]);
  return panel("Contribution of each component to an episode, after weights and caps", table(headings, rows));
}

// A number with three places, set right.
const right = (value, sign) => el("span", {class: "num", text: value == null ? "–" : sign ? signed(value, 3) : fixed(value, 3)});
const pay = value => el("span", {class: "num", text: signed(value, 4)});

function measureTable() {
  if (!D.measures.length) return null;
  if ("low" in D.measures[0]) {
    const between = row => row.low == null || row.high == null ? "–" : `${fixed(row.low, 3)} to ${fixed(row.high, 3)}`;
    return panel("Measures", table([["measure"], ["mean", true], ["95 % interval"], ["tasks", true]], D.measures.map(row => [row.name, right(row.mean), between(row), row.n])));
  }
  return panel("Held-out tasks", table([["measure"], ["first", true], ["last", true], ["change", true]],
    D.measures.map(row => [row.name, right(row.first), right(row.mean), right(row.mean - row.first, true)])));
}

function kindTable() {
  if (D.kinds.length < 2) return null;
  return panel("By kind of task", table([["kind"], ["tasks", true], ["success", true], [""], ["recall", true], ["turns", true]],
    D.kinds.map(row => [row.name, row.tasks, right(row.success), el("i", {class: "share", "--size": percent(row.success || 0)}), right(row.recall), right(row.turns)])));
}

function endTable() {
  const ends = Object.entries(D.ends);
  if (!ends.length) return null;
  return panel("How recorded episodes ended", table([["end"], ["episodes", true], [""], ["share", true]],
    ends.map(([end, n]) => [end || "(none)", n, el("i", {class: "share", "--size": percent(n / D.n_episodes)}), right(n / D.n_episodes)])));
}

function showCredit() {
  const {turns = [], components = [], forecast, step} = D.credit || {};
  if (!turns.length && !components.length && !forecast) return;
  $("credit").hidden = false;
  $("credit").append(el("h2", {text: "Credit"}),
    el("p", {class: "note", text: "What the siblings of a group can be told apart by. Zero variance: share of groups that say nothing at this place. Singletons: nobody to compare with. Effective members: how many share the credit of a group."}));
  if (forecast) $("credit").append(el("div", {class: "card notice"}, el("h4", {text: "Before training"}), el("p", {class: "said", text: forecast})));
  const after = `at step ${step}`;
  if (turns.length) $("credit").append(panel(`By turn, ${after}`, table(
    [["turn"], ["members", true], ["effective members", true], ["singletons", true], ["zero variance", true], ["levels agree", true], ["share of the credit", true]],
    turns.map(row => [String(row.turn), right(row.group_size), right(row.effective_size), row.singletons, right(row.zero_variance), right(row.sign_agreement), right(row.mass)]))));
  if (components.length) $("credit").append(panel(`By component, ${after}`, table(
    [["component"], ["turn"], ["effective members", true], ["singletons", true], ["zero variance", true], ["spread", true], ["goes with the outcome", true]],
    components.map(row => [el("span", {class: "key", text: row.component}), row.turn == null ? "end" : String(row.turn), right(row.effective_size), row.singletons, right(row.zero_variance), right(row.spread), right(row.sign_agreement)]))));
}

function showSettings() {
  const parts = [["Settings", D.settings], ["Versions", D.versions]].filter(([, rows]) => rows.length);
  if (!parts.length) return;
  $("settings").hidden = false;
  $("settings").append(el("h2", {text: "Settings"}), el("div", {class: "pair even"}, ...parts.flatMap(([title, rows]) => settingPanels(title, rows))));
}

// The settings by their section, in two columns of about the same length.
function settingPanels(title, rows) {
  const lines = rows.map(([key, value]) => [el("span", {class: "key", text: key}), el("span", {class: "mono said", text: value})]);
  const half = lines.length > 24 ? Math.ceil(lines.length / 2) : lines.length;
  return [panel(title, table([], lines.slice(0, half))), ...(half < lines.length ? [panel(`${title}, continued`, table([], lines.slice(half)))] : [])];
}

function showNavigation() {
  const parts = [...document.querySelectorAll("[data-nav]")].filter(part => !part.hidden);
  $("nav").append(...parts.map(part => el("a", {href: `#${part.id}`, text: part.dataset.nav})));
}

function showTheme() {
  const order = ["light dark", "light", "dark"], words = ["auto", "light", "dark"];
  let at = 0;
  const apply = () => {
    document.documentElement.style.colorScheme = order[at];
    $("theme").textContent = `◐ ${words[at]}`;
    $("theme").title = "colours: as the system, light, dark";
  };
  $("theme").addEventListener("click", () => { at = (at + 1) % order.length; apply(); });
  apply();
}

// A part that cannot be shown costs only itself.
for (const show of [showHead, showNotices, showCurves, showScores, showCredit, showEpisodes, showSettings, showNavigation, showTheme]) {
  try {
    show();
  } catch (error) {
    notice(`A part of this report could not be drawn (${show.name})`, "broken", [el("li", {}, el("span", {class: "said", text: String(error)}))]);
    console.error(error);
  }
}
