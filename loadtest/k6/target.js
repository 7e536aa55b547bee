// What every k6 scenario shares: where the proxy is, tokens, and thresholds.
import http from 'k6/http';
import { check } from 'k6';

export const BASE = __ENV.BASE || 'http://127.0.0.1:8080';
// Load goes to this machine only.
if (!/^http:\/\/127\.0\.0\.1:\d+$/.test(BASE)) {
  throw new Error(`BASE must be http://127.0.0.1:PORT, not ${BASE}`);
}

export const SECONDS = Number(__ENV.SECONDS || 10);
const P99_MS_MAX = Number(__ENV.P99_MS_MAX || 500);
export const USER = { Authorization: `Bearer ${__ENV.USER_TOKEN}` };
export const ADMIN = { Authorization: `Bearer ${__ENV.ADMIN_TOKEN}` };

// Every answer is the one that was expected, and 99 of 100 are in time. A scenario that also asks for
// what must be refused tells k6 so, with `expecting`.
export const THRESHOLDS = {
  checks: ['rate==1'],
  http_req_failed: ['rate==0'],
  http_req_duration: [`p(99)<${P99_MS_MAX}`],
};

// For scenarios with a rate of arrivals: that rate was really kept.
export const KEPT_RATE = { dropped_iterations: ['count==0'] };

export const SUMMARY = ['med', 'p(99)', 'max'];

export function get(path, { status = 200, bytes, headers = {} } = {}) {
  const answer = http.get(`${BASE}${path}`, {
    headers,
    responseType: 'binary',
    responseCallback: http.expectedStatuses(status),
  });
  check(answer, {
    [`${path} is ${status}`]: (a) => a.status === status,
    [`${path} is whole`]: (a) => bytes === undefined || (a.body && a.body.byteLength === bytes),
  });
  return answer;
}
