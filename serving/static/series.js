// Samples of the server, and what is made of them: rates, percentiles, losses of the last while.

const KEPT_SECONDS = 15 * 60;
const RATE_SECONDS = 3;
const LATENCY_SECONDS = 10;
const RECENT_SECONDS = 60;
// Of less than this the mean jumps about.
const LEAST_SECONDS = 10;
const AGE_SAMPLES = 20;

export class Series {
  constructor() {
    this.samples = [];
    this.bounds = [];
  }

  get last() {
    return this.samples.at(-1) ?? null;
  }

  /** Take an answer of /stats.json. */
  take(stats) {
    this.bounds = stats.latency_bounds;
    for (const values of stats.samples) {
      const sample = Object.fromEntries(stats.columns.map((name, i) => [name, values[i]]));
      if (this.last !== null && sample.time <= this.last.time) continue;
      // A server that was started again counts from 0; what it counted before cannot be compared.
      if (this.last !== null && sample.scored < this.last.scored) this.samples = [];
      this.samples.push(sample);
    }
    const first = (this.last?.time ?? 0) - KEPT_SECONDS;
    while (this.samples.length && this.samples[0].time < first) this.samples.shift();
  }

  /** The youngest sample that is at least `seconds` older than sample i, else the oldest one. */
  before(i, seconds) {
    let j = i;
    while (j > 0 && this.samples[i].time - this.samples[j].time < seconds) j -= 1;
    return this.samples[j];
  }

  column(value) {
    return this.samples.map((sample, i) => value.call(this, i, sample));
  }

  times() {
    return this.samples.map((sample) => sample.time);
  }

  /** How fast a count grows, a second. */
  rate(name, i = this.samples.length - 1) {
    if (i < 1) return null;
    const [now, then] = [this.samples[i], this.before(i, RATE_SECONDS)];
    return (now[name] - then[name]) / (now.time - then.time);
  }

  /** The mean of a count for each of another one, over the last seconds. */
  ratio(name, of, i = this.samples.length - 1) {
    if (i < 1) return null;
    const [now, then] = [this.samples[i], this.before(i, LATENCY_SECONDS)];
    return now[of] > then[of] ? (now[name] - then[name]) / (now[of] - then[of]) : null;
  }

  /** A percentile of the latency over the last seconds, from buckets: even within one. */
  latency(share, i = this.samples.length - 1) {
    if (i < 1) return null;
    const [now, then] = [this.samples[i].latencies, this.before(i, LATENCY_SECONDS).latencies];
    const counts = now.map((number, k) => number - then[k]);
    const total = counts.reduce((sum, number) => sum + number, 0);
    if (total === 0) return null;
    let left = share * total;
    for (let k = 0; k < counts.length; k += 1) {
      if (counts[k] && left <= counts[k]) {
        const low = k ? this.bounds[k - 1] : 0;
        const high = this.bounds[k] ?? low;
        return low + ((high - low) * left) / counts[k];
      }
      left -= counts[k];
    }
    return this.bounds.at(-1);
  }

  /** The oldest that the model was within the last seconds; between two snapshots its age goes up and down. */
  age(i = this.samples.length - 1) {
    const ages = this.samples.slice(Math.max(0, i - AGE_SAMPLES + 1), i + 1).map((sample) => sample.age);
    return ages.at(-1) === null ? null : Math.max(...ages);
  }

  /** Progressive log loss and calibration of the events learned in the last while alone. */
  recent(i = this.samples.length - 1) {
    const none = { loss: null, calibration: null };
    const now = this.samples[i];
    let j = i;
    while (j > 0 && now.time - this.samples[j].time < RECENT_SECONDS && this.samples[j - 1].log_loss !== null) j -= 1;
    const then = this.samples[j];
    if (!now || now.log_loss === null || then.log_loss === null || !(now.learned_rows > then.learned_rows)) return none;
    if (now.time - then.time < LEAST_SECONDS) return none;
    const rows = now.learned_rows - then.learned_rows;
    const labels = (sample) => sample.label_mean * sample.learned_rows;
    const predictions = (sample) => (sample.calibration ?? 0) * labels(sample);
    const seen = labels(now) - labels(then);
    return {
      loss: (now.log_loss * now.learned_rows - then.log_loss * then.learned_rows) / rows,
      calibration: seen > 0.5 ? (predictions(now) - predictions(then)) / seen : null,
    };
  }
}
