// The page: asks for statistics once a second and shows them.

import { around, Chart, decades, fromZero, tight } from "./charts.js";
import { ask, forgetToken, hasToken, keepToken } from "./client.js";
import { listWeights } from "./features.js";
import * as numbers from "./numbers.js";
import { Series } from "./series.js";
import { TryForm } from "./try.js";

const POLL_MILLISECONDS = 1000;
const WEIGHTS_MILLISECONDS = 5000;
const WEIGHTS_SHOWN = 16;

const get = (id) => document.getElementById(id);
const series = new Series();
const form = new TryForm();

const TILES = [
  ["Requests for scores", () => [numbers.rate(series.rate("scored")), "a second"],
    () => `${numbers.rate(series.rate("candidates"))} candidates a second`],
  ["Latency p50", () => numbers.time(series.latency(0.5)), () => "in the server, last 10 s"],
  ["Latency p99", () => numbers.time(series.latency(0.99)), () => "in the server, last 10 s"],
  ["Model age", (model) => numbers.time(model?.age_seconds), (model) => (model ? `${numbers.count(model.rows)} events, ${numbers.rate(series.rate("rows"))} a second` : "")],
  ["Log loss", (model) => [numbers.decimal(model?.metrics?.log_loss), ""], () => `last minute ${numbers.decimal(series.recent().loss)}`],
  ["Calibration", (model) => [numbers.decimal(model?.metrics?.calibration), ""],
    () => `last minute ${numbers.decimal(series.recent().calibration)}`],
  ["AUC", (model) => [numbers.decimal(model?.metrics?.auc), ""], (model) => (model?.metrics?.label_mean ? `${numbers.percent(model.metrics.label_mean)} of events are 1` : "")],
  ["Non-zero weights", (model) => [numbers.count(model?.nonzero_weights), ""], (model) => (model ? `${numbers.bytes(model.snapshot_bytes)} served` : "")],
].map(([label, value, more]) => new Tile(label, value, more));

function Tile(label, value, more) {
  const card = document.createElement("div");
  card.className = "card tile";
  const parts = ["label", "value", "more"].map((name) => {
    const found = document.createElement("div");
    found.className = name;
    card.append(found);
    return found;
  });
  parts[0].textContent = label;
  const number = document.createElement("span");
  const unit = document.createElement("span");
  unit.className = "unit";
  parts[1].append(number, unit);
  get("tiles").append(card);
  this.show = (model) => {
    [number.textContent, unit.textContent] = value(model);
    parts[2].textContent = more(model);
  };
}

const NO_REQUESTS = "no requests yet";
const NOTHING_LEARNED = "nothing learned from while this is watched";
// The others come below the form.
const CHARTS_ABOVE = 2;
const CHARTS = [
  [{ title: "Requests a second", empty: NO_REQUESTS, range: fromZero, ticks: numbers.plainTicks,
    lines: [{ label: "for scores", format: numbers.rate, fill: true }, { label: "errors", format: numbers.rate }] },
  (i) => series.rate("scored", i), (i) => series.rate("errors", i)],
  [{ title: "Latency in the server", empty: NO_REQUESTS, range: decades, log: true, ticks: (ticks) => numbers.timeTicks(ticks, true),
    lines: [{ label: "p50", format: numbers.duration }, { label: "p99", format: numbers.duration }] },
  (i) => series.latency(0.5, i), (i) => series.latency(0.99, i)],
  [{ title: "Progressive log loss", empty: NOTHING_LEARNED, range: tight, ticks: numbers.plainTicks,
    lines: [{ label: "all events", format: numbers.decimal }, { label: "last minute", format: numbers.decimal }] },
  (i, sample) => sample.log_loss, (i) => series.recent(i).loss],
  [{ title: "Calibration: predictions / labels", empty: NOTHING_LEARNED, range: around(1, 0.05), ticks: numbers.plainTicks,
    lines: [{ label: "all events", format: numbers.decimal }, { label: "last minute", format: numbers.decimal }] },
  (i, sample) => sample.calibration, (i) => series.recent(i).calibration],
  [{ title: "Model age", empty: "no model yet", range: fromZero, ticks: numbers.timeTicks, steps: numbers.TIME_STEPS,
    lines: [{ label: "oldest in 20 s", format: numbers.duration, fill: true }] },
    (i) => series.age(i)],
  [{ title: "Non-zero weights", empty: "no model yet", range: tight, ticks: numbers.plainTicks, steps: numbers.WHOLE_STEPS,
    lines: [{ label: "weights", format: numbers.count, fill: true }] },
    (i, sample) => sample.nonzero_weights],
].map(([options, ...columns], i) => ({ chart: new Chart(get(i < CHARTS_ABOVE ? "charts" : "more-charts"), options), columns }));

function status(kind, text) {
  get("status").className = `status ${kind}`;
  get("status").textContent = text;
}

function problem(text) {
  get("problem").hidden = !text;
  get("problem").textContent = text;
}

function show(stats) {
  const { model, server } = stats;
  series.take(stats);
  get("version").textContent = `ftrl-engine ${stats.version}`;
  if (model) {
    get("name").textContent = document.title = model.name;
    const workers = server.workers > 1 ? ` · ${server.workers} workers` : "";
    get("facts").textContent = `${model.learner ?? "unknown learner"} · 2^${model.bits} slots · version ${model.version}${workers}`;
  }
  if (server.draining) status("bad", "ending");
  else if (!model) status("bad", "no model yet");
  else if (server.reload_error || server.feedback?.error || (server.learner && !server.learner.running)) status("bad", "degraded");
  else status("good", server.learner ? "serving and learning" : "serving");
  const said = [server.reload_error, server.feedback?.error && `feedback: ${server.feedback.error}`];
  if (server.learner && !server.learner.running) said.push(`the learner does not run: ${server.learner.error ?? "it is started again"}`);
  problem(said.filter(Boolean).join("; "));
  for (const tile of TILES) tile.show(model);
  const times = series.times();
  for (const { chart, columns } of CHARTS) chart.set([times, ...columns.map((column) => series.column(column))]);
}

async function poll() {
  try {
    const after = series.last ? Math.floor(series.last.time) : 0;
    show(await ask(`stats.json?after=${after}`));
    get("token-form").hidden = true;
  } catch (error) {
    if (error.status === 401) return askForToken();
    status("bad", error.status ? "refused" : "not reachable");
    if (error.status) problem(error.message);
  }
  return later();
}

let timer = 0;
let weightsAt = -Infinity;

async function later() {
  const now = performance.now();
  if (series.last?.rows !== null && now - weightsAt >= WEIGHTS_MILLISECONDS) {
    weightsAt = now;
    await showWeights();
  }
  clearTimeout(timer);
  // A page that nobody sees asks for nothing; what it misses is in the history of the server.
  if (!document.hidden) timer = setTimeout(poll, POLL_MILLISECONDS);
}

async function showWeights() {
  let weights;
  try {
    weights = await ask("weights.json");
  } catch {
    return;
  }
  const all = [...weights.positive, ...weights.negative];
  const largest = Math.max(...all.map((one) => Math.abs(one.weight)), 1e-9);
  listWeights(get("positive"), weights.positive, largest, WEIGHTS_SHOWN);
  listWeights(get("negative"), weights.negative, largest, WEIGHTS_SHOWN);
  const named = all.some((one) => one.names.length);
  get("weights-hint").textContent = named
    ? "what moves a score most, by the names that the learner has written down"
    : "by their slots: the learner has written no names";
  form.offer(weights);
}

function askForToken() {
  status("bad", "token needed");
  get("token-error").textContent = hasToken() ? "This was not the right token." : "";
  forgetToken();
  get("token-form").hidden = false;
  get("token").focus();
}

get("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(get("token").value.trim());
  get("token").value = "";
  poll();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && get("token-form").hidden) {
    clearTimeout(timer);
    poll();
  }
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const { chart } of CHARTS) chart.make();
});
poll();
