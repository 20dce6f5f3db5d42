// Numbers as people read them. Each takes null for what is not known.

const NONE = "–";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

const missing = (x) => x === null || x === undefined || !Number.isFinite(x);

export function count(x) {
  if (missing(x)) return NONE;
  return Math.abs(x) < 100000 ? whole.format(x) : short.format(x);
}

export function rate(x) {
  if (missing(x)) return NONE;
  if (x > 0 && x < 10) return x.toFixed(1);
  return count(x);
}

export function decimal(x) {
  return missing(x) ? NONE : x.toFixed(Math.abs(x) < 0.1 ? 4 : 3);
}

export function percent(x) {
  if (missing(x)) return NONE;
  const value = 100 * x;
  return `${value.toFixed(value < 0.1 ? 4 : value < 10 ? 2 : 1)}%`;
}

export function signed(x) {
  return missing(x) ? NONE : `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(3)}`;
}

/** [number, unit] of a time in seconds. */
export function time(x) {
  if (missing(x)) return [NONE, ""];
  if (x < 0.001) return [(x * 1e6).toFixed(0), "µs"];
  if (x < 1) return [(x * 1e3).toFixed(x < 0.01 ? 2 : 0), "ms"];
  if (x < 120) return [x.toFixed(1), "s"];
  if (x < 7200) return [(x / 60).toFixed(0), "min"];
  if (x < 172800) return [(x / 3600).toFixed(1), "h"];
  return [(x / 86400).toFixed(0), "days"];
}

export const duration = (x) => time(x).join(" ").trim();

export function bytes(x) {
  if (missing(x)) return NONE;
  for (const unit of ["B", "KB", "MB"]) {
    if (x < 1000) return `${x.toPrecision(3).replace(/\.?0+$/, "")} ${unit}`;
    x /= 1024;
  }
  return `${x.toFixed(1)} GB`;
}

// What stands at the ticks of an axis: one unit for all of them, and every digit that tells them apart.

const UNITS = [["µs", 1e-6], ["ms", 1e-3], ["s", 1], ["min", 60], ["h", 3600], ["days", 86400]];
const MOST_DIGITS = 6;

/** Ticks of a count or a ratio; null stays null. */
export function plainTicks(ticks) {
  const largest = Math.max(...known(ticks).map(Math.abs), 0);
  const [size, unit] = largest >= 1e6 ? [1e6, "M"] : largest >= 1e5 ? [1e3, "k"] : [1, ""];
  return alike(ticks, size).map((text) => (text === null ? null : text + unit));
}

/** Ticks of a time in seconds. On a scale of logarithms the unit is that of its middle. */
export function timeTicks(ticks, log = false) {
  const sizes = known(ticks).filter((x) => x > 0);
  const typical = !sizes.length ? 1 : log ? Math.sqrt(Math.min(...sizes) * Math.max(...sizes)) : Math.max(...sizes);
  const [unit, size] = UNITS.findLast(([name, least]) => typical >= (least > 1 ? 2 * least : least) * (1 - 1e-9)) ?? UNITS[0];
  return alike(ticks, size).map((text) => (text === null ? null : `${text} ${unit}`));
}

/** Steps between ticks that are whole in the unit of a time. */
export const TIME_STEPS = [
  ...[-6, -5, -4, -3, -2, -1].flatMap((power) => [1, 2, 5].map((x) => Number(`${x}e${power}`))),
  ...[1, 2, 5, 10, 20, 30], ...[1, 2, 5, 10, 20, 30].map((x) => 60 * x), ...[1, 2, 3, 6, 12].map((x) => 3600 * x),
  ...[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].map((x) => 86400 * x),
];

/** Steps between ticks of what is counted. */
export const WHOLE_STEPS = [...Array(10).keys()].flatMap((power) => [1, 2, 5].map((x) => x * 10 ** power));

const known = (ticks) => ticks.filter((x) => !missing(x));

function alike(ticks, size) {
  const digits = (x) => {
    let n = 0;
    while (n < MOST_DIGITS && Math.abs(x * 10 ** n - Math.round(x * 10 ** n)) > 1e-6) n += 1;
    return n;
  };
  const scaled = ticks.map((x) => (missing(x) ? null : x / size));
  const most = Math.max(0, ...scaled.filter((x) => x !== null).map(digits));
  const sizes = scaled.filter((x) => x).map(Math.abs);
  // A scale of logarithms has ticks of all sizes; elsewhere they are written alike.
  const own = Math.max(...sizes) > 99 * Math.min(...sizes);
  return scaled.map((x) => (x === null ? null : grouped(x, own || x === 0 ? digits(x) : most)));
}

function grouped(x, digits) {
  return x.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
