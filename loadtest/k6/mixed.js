// Everything at once: small and large objects, ranges, tokens good and missing, keys that are not
// there. Each answer is checked for its status and its length.
import http from 'k6/http';
import { check } from 'k6';
import { BASE, SECONDS, SUMMARY, THRESHOLDS, USER, get } from './target.js';

const scenario = (exec, vus) => ({ executor: 'constant-vus', exec, vus, duration: `${SECONDS}s` });

export const options = {
  summaryTrendStats: SUMMARY,
  // Large bodies share the machine with small ones here: latency is the other scenarios' matter.
  thresholds: { checks: THRESHOLDS.checks, http_req_failed: THRESHOLDS.http_req_failed },
  scenarios: {
    small: scenario('small', 8),
    large: scenario('large', 2),
    ranges: scenario('ranges', 4),
    tokens: scenario('tokens', 4),
    refused: scenario('refused', 2),
    heads: scenario('heads', 2),
  },
};

export function small() {
  get('/public/1k', { bytes: 1024 });
}

export function large() {
  get('/public/10m', { bytes: 10485760 });
}

export function ranges() {
  const first = Math.floor(Math.random() * 1000000);
  const last = first + Math.floor(Math.random() * 40000);
  const range = { Range: `bytes=${first}-${last}` };
  get('/public/10m', { status: 206, bytes: last - first + 1, headers: range });
}

export function tokens() {
  get('/private/64k', { bytes: 65536, headers: USER });
}

export function refused() {
  get('/private/1k', { status: 401 });
  get('/public/not-there', { status: 404 });
  get('/no-such-bucket/x', { status: 404 });
}

export function heads() {
  const answer = http.head(`${BASE}/public/1m`);
  check(answer, {
    'HEAD has the length': (a) => a.status === 200 && a.headers['Content-Length'] === '1048576',
    'HEAD has no body': (a) => !a.body,
  });
}
