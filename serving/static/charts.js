// Charts over time, drawn by uPlot.

const HEIGHT = 190;
const PHONE_HEIGHT = 160;
const CURSOR = "ftrl";

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function element(tag, className, text) {
  const found = document.createElement(tag);
  if (className) found.className = className;
  if (text !== undefined) found.textContent = text;
  return found;
}

function clock(seconds, step) {
  const at = new Date(1000 * seconds);
  const two = (x) => String(x).padStart(2, "0");
  const text = `${two(at.getHours())}:${two(at.getMinutes())}`;
  return step < 60 ? `${text}:${two(at.getSeconds())}` : text;
}

export class Chart {
  /**
   * title; lines: [{label, format}], at most two; empty: what to say without numbers; range: of y; log: its scale;
   * ticks: the texts of its ticks, of all at once; steps: those that may lie between ticks.
   */
  constructor(host, { title, lines, empty, range, log, ticks, steps }) {
    Object.assign(this, { lines, range, log, ticks, steps });
    const card = element("section", "card chart");
    const head = element("div", "head");
    head.append(element("h2", "", title));
    const legend = element("div", "legend");
    this.values = lines.map(({ label }, i) => {
      const entry = element("span");
      entry.append(element("span", `swatch ${i ? "second" : "first"}`), `${label} `);
      const value = element("b", "", "–");
      entry.append(value);
      legend.append(entry);
      return value;
    });
    head.append(legend);
    this.host = element("div", "plot empty");
    this.host.dataset.empty = empty;
    card.append(head, this.host);
    host.append(card);
    this.data = [[], ...lines.map(() => [])];
    this.make();
    new ResizeObserver(() => this.plot.setSize(this.size())).observe(this.host);
  }

  /** times, then one column for each line. */
  set(data) {
    this.data = data;
    this.host.classList.toggle("empty", !data.slice(1).some((column) => column.some((x) => x !== null)));
    this.plot.setData(data);
    this.tell(null);
  }

  /** Draw it anew, in the colors of the scheme that is on now. */
  make() {
    this.plot?.destroy();
    const stroke = [color("--first"), color("--second")];
    const soft = color("--soft");
    const grid = { stroke: color("--grid"), width: 1 };
    const font = "11px system-ui, sans-serif";
    const axis = { stroke: soft, font, ticks: { show: false } };
    this.plot = new uPlot(
      {
        ...this.size(),
        legend: { show: false },
        padding: [8, 24, 0, 0],
        cursor: { sync: { key: CURSOR }, y: false, points: { size: 7 }, drag: { setScale: false, x: false } },
        scales: { x: { time: true }, y: { range: this.range, distr: this.log ? 3 : 1 } },
        axes: [
          { ...axis, grid: { show: false }, space: 64, size: 28, values: (u, ticks, _, space, step) => ticks.map((x) => clock(x, step)) },
          { ...axis, grid, size: 58, space: 34, values: (u, ticks) => this.ticks(ticks), ...(this.steps ? { incrs: this.steps } : {}) },
        ],
        series: [
          {},
          ...this.lines.map((line, i) => ({
            stroke: stroke[i], width: 2, spanGaps: true, points: { show: false },
            fill: line.fill ? `${stroke[i]}22` : undefined,
          })),
        ],
        hooks: { setCursor: [(u) => this.tell(u.cursor.idx)] },
      },
      this.data,
      this.host,
    );
  }

  /** Write the values at an index, or the last ones, into the legend. */
  tell(index) {
    this.lines.forEach(({ format }, i) => {
      const column = this.data[i + 1];
      this.values[i].textContent = format(column[index ?? column.length - 1] ?? null);
    });
  }

  size() {
    const width = Math.max(200, this.host.clientWidth);
    return { width, height: matchMedia("(max-width: 760px)").matches ? PHONE_HEIGHT : HEIGHT };
  }
}

/** From 0 to a little above the largest value, and never a flat line. */
export function fromZero(u, low, high) {
  return [0, high > 0 ? 1.15 * high : 1];
}

/** Whole powers of ten, for a scale of logarithms. */
export function decades(u, low, high) {
  if (!(low > 0)) return [1e-4, 1e-2];
  const [bottom, top] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  return [10 ** bottom, 10 ** Math.max(top, bottom + 1)];
}

/** Around the values and `point`, which is always shown. */
export function around(point, least) {
  return (u, low, high) => {
    const top = Math.max(point, high ?? point);
    const bottom = Math.min(point, low ?? point);
    const room = Math.max(least, 0.15 * (top - bottom));
    return [bottom - room, top + room];
  };
}

/** Around the values, with room where they do not change. */
export function tight(u, low, high) {
  if (low === null || low === undefined) return [0, 1];
  const room = Math.max(0.1 * (high - low), 0.02 * Math.abs(high), 1e-6);
  return [Math.max(0, low - room), high + room];
}
