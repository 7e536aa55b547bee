// Requests arrive at a constant rate whether or not earlier ones are done, so that a stall of the
// proxy shows in the latencies of all that arrive meanwhile.
import { KEPT_RATE, SECONDS, SUMMARY, THRESHOLDS, get } from './target.js';

export const options = {
  discardResponseBodies: false,
  summaryTrendStats: SUMMARY,
  thresholds: { ...THRESHOLDS, ...KEPT_RATE },
  scenarios: {
    constant: {
      executor: 'constant-arrival-rate',
      rate: Number(__ENV.RATE || 300),
      timeUnit: '1s',
      duration: `${SECONDS}s`,
      preAllocatedVUs: 100,
      maxVUs: 300,
    },
  },
};

export default function () {
  get('/public/1k', { bytes: 1024 });
}
