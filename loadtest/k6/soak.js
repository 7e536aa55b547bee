// A steady, moderate mix for as long as one has patience. The runner watches the proxy's memory and
// descriptors meanwhile: what leaks a little per request shows here and nowhere else.
import { KEPT_RATE, SECONDS, SUMMARY, THRESHOLDS, USER, get } from './target.js';

export const options = {
  // Some connections end after each iteration, so that opening and closing is in the mix.
  noConnectionReuse: false,
  noVUConnectionReuse: true,
  summaryTrendStats: SUMMARY,
  thresholds: { ...THRESHOLDS, ...KEPT_RATE },
  scenarios: {
    soak: {
      executor: 'constant-arrival-rate',
      rate: Math.ceil(Number(__ENV.RATE || 300) / 3),
      timeUnit: '1s',
      duration: `${SECONDS}s`,
      preAllocatedVUs: 60,
      maxVUs: 200,
    },
  },
};

export default function () {
  get('/public/1k', { bytes: 1024 });
  get('/private/64k', { bytes: 65536, headers: USER });
  get('/private/1k', { status: 401 });
}
