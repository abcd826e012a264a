"use strict";
// The records, and the few functions that everything here is built with.
// A recorded text only ever becomes a text node or an attribute's value: never markup, never code.

const D = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);

function assign(node, props) {
  for (const [key, value] of Object.entries(props)) {
    if (value == null || value === false) continue;
    if (key === "text") node.textContent = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key.startsWith("--") || key === "background") node.style.setProperty(key, value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  return node;
}

function el(tag, props = {}, ...children) {
  const node = assign(document.createElement(tag), props);
  node.append(...children.filter(Boolean)); // nothing, "" and 0 of a condition that does not hold
  return node;
}

function svg(tag, props = {}, ...children) {
  const node = assign(document.createElementNS("http://www.w3.org/2000/svg", tag), props);
  node.append(...children);
  return node;
}

// ---- numbers: a word (NaN, ∞) stays a word

function fmt(value, digits = 3) {
  if (value == null) return "–";
  if (typeof value !== "number") return String(value);
  if (value !== 0 && (Math.abs(value) >= 1e6 || Math.abs(value) < 10 ** -digits)) return value.toExponential(1).replace("-", "−");
  const places = Math.abs(value) >= 1000 ? 0 : Math.abs(value) >= 100 ? Math.min(1, digits) : digits;
  return value.toLocaleString("en", {maximumFractionDigits: places}).replace("-", "−");
}

const fixed = (value, digits) => typeof value === "number" ? value.toFixed(digits).replace("-", "−") : fmt(value);
const signed = (value, digits = 2) => typeof value === "number" && value > 0 ? `+${fixed(value, digits)}` : fixed(value, digits);
const percent = share => `${(100 * Math.max(0, Math.min(1, share))).toFixed(2)}%`;
const colour = i => `var(--c${i % 8})`;

// ---- tables: a cell is a text, a number or a node; numbers, and spans of the class num, stand right

function cell(tag, value, klass) {
  const isNumber = typeof value === "number" || value == null;
  const isRight = isNumber || value.className === "num";
  const node = el(tag, {class: klass ?? (isRight ? "r" : null)});
  node.append(value instanceof Node ? value : isNumber ? fmt(value) : String(value));
  return node;
}

function table(headings, rows) {
  const head = headings.map(([text, right]) => cell("th", text, right ? "r" : null));
  return el("table", {},
    headings.length && el("thead", {}, el("tr", {}, ...head)),
    el("tbody", {}, ...rows.map(row => el("tr", {}, ...row.map((value, i) => cell(i ? "td" : "th", value))))));
}

function panel(title, ...children) {
  return el("div", {class: "card panel"}, el("h4", {text: title}), ...children);
}
