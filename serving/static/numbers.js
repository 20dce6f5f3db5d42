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
