// Lists of features with bars. Names come from the data of strangers, so they are only ever set as text.

import { decimal, signed } from "./numbers.js";

const SVG = "http://www.w3.org/2000/svg";

function part(parent, tag, className, text) {
  const found = document.createElement(tag);
  found.className = className;
  if (text !== undefined) found.textContent = text;
  parent.append(found);
  return found;
}

/** A bar from the left; share between 0 and 1. An SVG, because the page allows no style of elements. */
function bar(parent, share, up) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "bar");
  svg.setAttribute("aria-hidden", "true");
  for (const [width, className] of [[1, "ground"], [share, up ? "up" : "down"]]) {
    const rect = document.createElementNS(SVG, "rect");
    rect.setAttribute("width", `${(100 * width).toFixed(2)}%`);
    rect.setAttribute("height", "4");
    rect.setAttribute("rx", "2");
    rect.setAttribute("class", className);
    svg.append(rect);
  }
  parent.append(svg);
}

function item(list, name, value, share, { aside, note } = {}) {
  const entry = document.createElement("li");
  const line = part(entry, "div", "line");
  part(line, "span", "what", name);
  if (aside) part(line, "span", "aside", aside);
  part(line, "span", `number ${value < 0 ? "down-text" : "up-text"}`, signed(value));
  bar(entry, share, value >= 0);
  if (note) part(entry, "div", "note", note);
  list.append(entry);
}

/** Fill a list with weights of GET /weights.json. */
export function listWeights(list, weights, largest, shown) {
  list.replaceChildren();
  for (const { slot, weight, names } of weights.slice(0, shown)) {
    const [first = `slot ${slot}`, ...others] = names;
    const note = others.length ? `the slot is shared with ${others.join(", ")}` : "";
    item(list, first, weight, Math.abs(weight) / largest, { note });
  }
  if (!weights.length) part(list, "li", "nothing", "none");
}

/** Fill a list with the contributions of one explanation of POST /explain. */
export function listContributions(list, contributions, shown) {
  list.replaceChildren();
  const active = contributions.filter((one) => one.contribution !== 0);
  const largest = Math.max(...active.map((one) => Math.abs(one.contribution)), 1e-9);
  for (const one of active.slice(0, shown)) {
    const notes = [];
    if (one.value !== 1) notes.push(`weight ${signed(one.weight)} × ${decimal(one.value)}`);
    const aside = one.confidence === null ? "" : `confidence ${(100 * one.confidence).toFixed(0)}%`;
    if (one.shared_with?.length) notes.push(`the slot is shared with ${one.shared_with.join(", ")}`);
    item(list, one.name, one.contribution, Math.abs(one.contribution) / largest, { aside, note: notes.join(" · ") });
  }
  const rest = active.length - shown;
  const without = contributions.length - active.length;
  const left = [];
  if (rest > 0) left.push(`${rest} more with smaller parts`);
  if (without > 0) {
    const names = contributions.filter((one) => one.contribution === 0).map((one) => one.name);
    left.push(`without a weight: ${names.slice(0, 8).join(", ")}${without > 8 ? ` and ${without - 8} more` : ""}`);
  }
  if (left.length) part(list, "li", "nothing", left.join("; "));
  if (!contributions.length) part(list, "li", "nothing", "no features: the score is that of the intercept alone");
}
