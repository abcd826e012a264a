// Groups of sibling episodes: a list that can be filtered, and the chosen group with its siblings side by side.

const G = D.groups;
const solved = group => group.members.filter(member => member.success).length;
const everyTurn = G.flatMap(group => group.members.flatMap(member => member.turns));
const HAS_STEPS = G.some(group => group.step !== G[0].step);
const hasAdvantages = everyTurn.some(turn => typeof turn.A === "number");
const strongest = (values, share) => values.length ? values.sort((a, b) => a - b)[Math.floor((values.length - 1) * share)] || 1e-9 : 1;
// The scale of the shading: few values lie beyond it, and those are as strong as the scale goes.
const LIMIT = {
  A: strongest(everyTurn.filter(t => typeof t.A === "number" && t.A).map(t => Math.abs(t.A)), .95),
  H: strongest(everyTurn.flatMap(t => t.H || []).filter(h => typeof h === "number" && h > .01), .95),
};
const SHADES = {
  A: ["advantage", "pushed down", "pushed up", "linear-gradient(90deg, color-mix(in srgb, var(--bad-rgb) 55%, transparent), transparent, color-mix(in srgb, var(--good-rgb) 55%, transparent))"],
  p: ["improbable tokens", "p = 1", "p = .02", "linear-gradient(90deg, transparent, color-mix(in srgb, var(--c2) 60%, transparent))"],
  H: ["entropy", "certain", "undecided", "linear-gradient(90deg, transparent, color-mix(in srgb, var(--c4) 60%, transparent))"],
};
let current = null, shadeBy = hasAdvantages ? "A" : "p";

function tint(name, share) {
  const strength = Math.max(0, Math.min(1, share));
  return strength < .01 ? "transparent" : `color-mix(in srgb, var(${name}) ${(5 + 50 * strength).toFixed(1)}%, transparent)`;
}

function shade(turn, i) {
  if (shadeBy === "A") return typeof turn.A === "number" ? tint(turn.A < 0 ? "--bad-rgb" : "--good-rgb", Math.abs(turn.A) / LIMIT.A) : "transparent";
  if (shadeBy === "p") return typeof turn.logp?.[i] === "number" ? tint("--c2", -turn.logp[i] / 4) : "transparent";
  return typeof turn.H?.[i] === "number" ? tint("--c4", turn.H[i] / LIMIT.H) : "transparent";
}

// ---- filters

const FILTERS = {
  step: ["any step", group => [group.step]],
  kind: ["any kind", group => group.kind ? [group.kind] : []],
  end: ["any end", group => group.members.map(member => member.end)],
  code: ["any error code", group => group.members.flatMap(member => member.turns.map(turn => turn.code).filter(Boolean))],
};
const RESULTS = {
  "": ["any result", () => true],
  mixed: ["some siblings solved it", group => solved(group) > 0 && solved(group) < group.members.length],
  all: ["all solved it", group => solved(group) === group.members.length],
  none: ["none solved it", group => solved(group) === 0],
};
const chosen = {step: "", kind: "", end: "", code: "", result: "", text: ""};

function textOf(group) {
  const said = group.members.flatMap(member => [member.answer || "", ...member.turns.flatMap(turn => [turn.action, turn.seen || ""])]);
  return [group.question, group.task, ...group.gold, ...said].join("\n").toLowerCase();
}

function matches(group) {
  if (!RESULTS[chosen.result][1](group)) return false;
  for (const [name, [, values]] of Object.entries(FILTERS)) {
    if (chosen[name] && !values(group).some(value => String(value) === chosen[name])) return false;
  }
  group.all ??= textOf(group);
  return group.all.includes(chosen.text.toLowerCase());
}

function choice(name, options) {
  const select = el("select", {"aria-label": name}, ...options.map(([value, text]) => el("option", {value, text})));
  select.addEventListener("input", () => { chosen[name] = select.value; showList(); });
  return select;
}

function showFilters() {
  const bar = $("filters");
  for (const [name, [any, values]] of Object.entries(FILTERS)) {
    const found = [...new Set(G.flatMap(values))].sort((a, b) => a - b || String(a).localeCompare(String(b)));
    if (found.length > 1 || (name === "code" && found.length)) bar.append(choice(name, [["", any], ...found.map(v => [v, name === "step" ? `step ${v}` : v])]));
  }
  bar.append(choice("result", Object.entries(RESULTS).map(([value, [text]]) => [value, text])));
  const search = el("input", {type: "search", placeholder: "search questions, actions, results", "aria-label": "search"});
  search.addEventListener("input", () => { chosen.text = search.value; showList(); });
  bar.append(search, el("span", {class: "count", id: "count"}));
}

// ---- list

function showList() {
  const shown = G.filter(matches);
  if (!shown.includes(current)) { current = shown[0] || null; showGroup(); }
  $("count").textContent = `${shown.length} of ${G.length} groups`;
  $("list").replaceChildren(...shown.map(listItem));
  if (!shown.length) $("list").append(el("p", {class: "note", text: "No group matches."}));
}

function listItem(group) {
  const dots = el("span", {class: "dots", title: `${solved(group)} of ${group.members.length} solved it`},
    ...group.members.map(member => el("span", {class: member.success ? "ok" : "no", text: member.success ? "●" : "○"})));
  const where = [HAS_STEPS && `step ${group.step}`, group.kind].filter(Boolean).join(" · ");
  const item = el("div", {class: "item", role: "option", "aria-selected": String(group === current)},
    el("span", {class: "q", text: group.question}), el("small", {}, el("span", {text: where}), dots));
  item.addEventListener("click", () => choose(group));
  return item;
}

function choose(group) {
  current = group;
  showGroup();
  showList();
}

function moveBy(event) {
  const by = {ArrowDown: 1, ArrowUp: -1, j: 1, k: -1}[event.key];
  const shown = G.filter(matches), next = shown[shown.indexOf(current) + by];
  if (!by || !next) return;
  event.preventDefault();
  choose(next);
  $("list").querySelector("[aria-selected=true]").scrollIntoView({block: "nearest"});
}

// ---- one group

function showGroup() {
  const home = $("detail");
  home.replaceChildren();
  if (!current) return;
  const group = current;
  home.append(el("p", {class: "question said", text: group.question}));
  if (group.gold.length) home.append(el("p", {class: "gold"}, "gold: ", el("b", {class: "said", text: group.gold.join(" | ")})));
  home.append(el("p", {class: "ids said", text: [HAS_STEPS && `step ${group.step}`, group.kind && `kind ${group.kind}`, `task ${group.task}`, `group ${group.id}`].filter(Boolean).join(" · ")}));
  home.append(promptOf(group), shadingBar(), advantageMap(group));
  home.append(el("div", {class: "siblings"}, ...group.members.map(sibling)));
  if (group.hidden) home.append(el("p", {class: "note", text: `${group.hidden} more siblings are in trajectories.jsonl.`}));
}

function promptOf(group) {
  const messages = D.prompts[group.prompt] || [];
  return el("details", {}, el("summary", {text: "What the policy read first"}),
    ...messages.flatMap(([role, text]) => [el("div", {class: "role", text: role}), el("pre", {class: "said", text})]));
}

function shadingBar() {
  const known = {A: hasAdvantages, p: everyTurn.some(turn => turn.logp), H: everyTurn.some(turn => turn.H)};
  const names = Object.keys(SHADES).filter(name => known[name]);
  if (!names.length) return "";
  const select = el("select", {"aria-label": "shading"}, ...names.map(name => el("option", {value: name, text: SHADES[name][0], selected: name === shadeBy})));
  select.addEventListener("input", () => { shadeBy = select.value; showGroup(); });
  const [, low, high, ramp] = SHADES[shadeBy];
  const range = shadeBy === "A" ? [`−${fmt(LIMIT.A, 2)} ${low}`, `${high} +${fmt(LIMIT.A, 2)}`] : [low, shadeBy === "H" ? `${high}, ${fmt(LIMIT.H, 2)} nats` : high];
  return el("div", {class: "shading"}, "Tokens are shaded by", select, range[0], el("span", {class: "ramp", background: ramp}), range[1]);
}

// Siblings down, turns across: where the group's credit lies, at a glance.
function advantageMap(group) {
  const width = Math.max(...group.members.map(member => member.turns.length));
  if (!group.members.some(member => member.turns.some(turn => typeof turn.A === "number"))) return "";
  const head = el("tr", {}, el("th", {text: "advantage"}), ...Array.from({length: width}, (_, k) => el("th", {text: `turn ${k}`})));
  const rows = group.members.map((member, n) => el("tr", {}, el("th", {}, name(member)), ...member.turns.map((turn, k) => el("td", {}, el("button", {
    type: "button", background: typeof turn.A === "number" ? tint(turn.A < 0 ? "--bad-rgb" : "--good-rgb", Math.abs(turn.A) / LIMIT.A) : "transparent",
    title: turn.action.slice(0, 300), text: signed(turn.A), onclick: () => $(`turn-${n}-${k}`).scrollIntoView({block: "nearest", inline: "center", behavior: "smooth"}),
  })))));
  return el("table", {class: "map"}, el("thead", {}, head), el("tbody", {}, ...rows));
}

const name = member => el("span", {class: member.success ? "ok" : "no", text: `${member.success ? "●" : "○"} ${member.i}`});

function sibling(member, n) {
  const flags = [member.out && `not in ${member.out.join(" and ")}`, member.parent && `branch of ${member.parent.join(", turn ")}`, member.thin && "shortened: the record is very long"].filter(Boolean);
  return el("article", {class: "sib"},
    el("header", {}, name(member), el("span", {text: member.end}), el("b", {class: "num", title: "sum of all scores", text: signed(member.total)})),
    ...member.turns.map((turn, k) => turnOf(turn, k, n)),
    member.more && el("div", {class: "note", text: `… ${member.more} more turns`}),
    el("div", {}, el("div", {class: "answer said", text: member.answer == null ? "no answer" : `answer: ${member.answer}`}),
      member.error && el("div", {class: "fault said", text: member.error}), flags.length && el("div", {class: "flag", text: flags.join("; ")}), chips(member.scores)));
}

function turnOf(turn, k, n) {
  return el("div", {class: "turn", id: `turn-${n}-${k}`},
    el("div", {class: "meta"}, el("span", {}, `turn ${k} `, turn.code ? el("span", {class: "code", text: turn.code}) : ""),
      turn.A == null ? "" : el("span", {class: "num", text: `A ${signed(turn.A)}`})),
    actionOf(turn),
    turn.error && el("div", {class: "fault said", text: turn.error}),
    turn.seen && el("div", {class: "seen said", text: turn.seen}),
    turn.scores && chips(turn.scores));
}

function chips(scores) {
  const about = ([, raw, weight, , reason, state]) => [state, raw != null && `raw ${fmt(raw)} × weight ${fmt(weight)}`, reason].filter(Boolean).join(" · ");
  return scores.length ? el("div", {class: "chips"}, ...scores.map(score => el("span", {title: about(score), class: score[5] ? "odd" : ""},
    `${score[0]} `, score[5] ? score[5] : el("b", {class: `num ${score[3] < 0 ? "minus" : score[3] > 0 ? "plus" : ""}`, text: signed(score[3])})))) : null;
}

// ---- tokens

function actionOf(turn) {
  const box = el("div", {class: "action said"});
  const pieces = turn.ids && turn.ids.every(id => id in D.tokens) ? aligned(turn) : null;
  if (!pieces) {
    box.append(el("span", {class: "tok", background: shadeBy === "A" ? shade(turn, 0) : null, text: turn.action || "(empty)"}));
    return box;
  }
  pieces.forEach((text, i) => {
    const p = turn.logp?.[i], about = [turn.A != null && `advantage ${signed(turn.A)}`, typeof p === "number" && `p ${fmt(Math.exp(p))}`, turn.H?.[i] != null && `entropy ${fmt(turn.H[i])} nats`];
    box.append(el("span", {class: "tok", background: shade(turn, i), title: about.filter(Boolean).join(" · "), text}));
  });
  if (turn.cut) box.append(el("span", {class: "when", text: ` … ${turn.cut} more tokens`}));
  return box;
}

// The texts of the tokens, with the blanks that the action has between them where a tokenizer drops those.
function aligned(turn) {
  const texts = turn.ids.map(id => D.tokens[id]), pieces = [];
  let at = 0;
  for (const text of texts) {
    const bare = text.trim(), found = turn.action.indexOf(bare, at);
    if (found < 0 || turn.action.slice(at, found).trim()) return texts;
    pieces.push(turn.action.slice(at, found + bare.length));
    at = found + bare.length;
  }
  return pieces;
}

function showEpisodes() {
  if (!G.length) return;
  $("episodes").hidden = false;
  const shown = G.reduce((sum, group) => sum + group.members.length, 0);
  $("episodes-note").textContent = (shown < D.n_episodes ? `${shown.toLocaleString("en")} of ${D.n_episodes.toLocaleString("en")} recorded episodes, spread evenly over the run. ` : "")
    + "A group holds the episodes of one task; ● is a success. Siblings stand side by side, with the scores of every turn and of the outcome below it.";
  showFilters();
  current = G.findLast(RESULTS.mixed[1]) || G[0];
  showGroup();
  showList();
  $("list").addEventListener("keydown", moveBy);
  const on = $("list").querySelector("[aria-selected=true]");
  $("list").scrollTop = on ? on.offsetTop - 80 : 0;
}
