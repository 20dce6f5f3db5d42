// The form: score a request, explain it, and choose among its candidates.

import { ask } from "./client.js";
import { listContributions } from "./features.js";
import { duration, percent, signed } from "./numbers.js";

const SHOWN = 14;
const MAX_RANKED = 20;
const EXAMPLE_FIELDS = 8;
const get = (id) => document.getElementById(id);

export class TryForm {
  constructor() {
    this.touched = false;
    get("event").addEventListener("input", () => { this.touched = true; });
    get("event-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.answer();
    });
  }

  /** Offer an event of fields that the model knows, until somebody types. */
  offer(weights) {
    if (this.touched) return;
    const context = {};
    // One of each sign in turn, so that there is something to explain.
    const names = weights.positive.flatMap((weight, i) => [weight, weights.negative[i]])
      .flatMap((weight) => weight?.names.slice(0, 1) ?? []);
    for (const name of names) {
      const [, field, value] = /^([^=*~]+)=([^*]*)$/.exec(name) ?? [];
      if (field === undefined || Object.hasOwn(context, field)) continue;
      Object.defineProperty(context, field, { value, enumerable: true });
      if (Object.keys(context).length >= EXAMPLE_FIELDS) break;
    }
    if (!Object.keys(context).length) return;
    this.touched = true;
    get("event").value = JSON.stringify({ context }, null, 2);
    get("event").rows = Object.keys(context).length + 5;
  }

  async answer() {
    const button = get("event-form").querySelector("button");
    const body = get("event").value;
    get("event-error").textContent = get("event-note").textContent = "";
    button.disabled = true;
    try {
      const began = performance.now();
      const { scores, model } = await ask("score", body);
      const seconds = (performance.now() - began) / 1000;
      const { explanations } = await ask("explain", body);
      get("event-note").textContent = `${duration(seconds)} round trip, model of ${model.rows.toLocaleString("en")} rows`;
      this.show(scores, explanations);
    } catch (error) {
      get("answer").hidden = true;
      get("event-error").textContent = error.message;
    } finally {
      button.disabled = false;
    }
  }

  show(scores, explanations) {
    const order = scores.map((score, i) => i).sort((a, b) => scores[b] - scores[a]);
    const ranking = get("ranking");
    ranking.replaceChildren();
    get("answer").hidden = !scores.length;
    if (!scores.length) return;
    const choose = (i) => {
      for (const button of ranking.children) button.setAttribute("aria-pressed", String(button.dataset.row === String(i)));
      this.explain(scores[i], explanations[i]);
    };
    for (const i of scores.length > 1 ? order.slice(0, MAX_RANKED) : []) {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.row = String(i);
      button.textContent = `candidate ${i + 1} · ${percent(scores[i])}`;
      button.addEventListener("click", () => choose(i));
      ranking.append(button);
    }
    choose(order[0]);
  }

  explain(score, { margin, intercept, uncertainty, contributions }) {
    get("score").textContent = percent(score);
    get("range").textContent = uncertainty
      ? `one more event like it moves it to between ${percent(uncertainty.score[0])} and ${percent(uncertainty.score[1])}`
      : "";
    get("margin").textContent = `margin ${signed(margin)} = intercept ${signed(intercept)} + what the features add:`;
    listContributions(get("contributions"), contributions, SHOWN);
    get("confidence").hidden = !contributions.some((one) => one.contribution !== 0 && one.confidence !== null);
  }
}
