// The rate rises to its peak, stays and falls: connections are opened while others are served, and
// what was opened for the peak must not be missed after it.
import { KEPT_RATE, SECONDS, SUMMARY, THRESHOLDS, get } from './target.js';

const PEAK = Number(__ENV.RATE || 300) * 2;

export const options = {
  summaryTrendStats: SUMMARY,
  thresholds: { ...THRESHOLDS, ...KEPT_RATE },
  scenarios: {
    ramp: {
      executor: 'ramping-arrival-rate',
      startRate: 20,
      timeUnit: '1s',
      preAllocatedVUs: 200,
      maxVUs: 400,
      stages: [
        { target: PEAK, duration: `${SECONDS / 2}s` },
        { target: PEAK, duration: `${SECONDS / 4}s` },
        { target: 20, duration: `${SECONDS / 4}s` },
      ],
    },
  },
};

export default function () {
  get('/public/1k', { bytes: 1024 });
}
