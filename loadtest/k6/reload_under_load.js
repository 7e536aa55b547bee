// The configuration changes twice a second under load: the runner rewrites the file, this script
// asks for the reload. Not one request may fail, and each reload that changes something must raise
// the generation.
import http from 'k6/http';
import { check, sleep } from 'k6';
import { Counter } from 'k6/metrics';
import { ADMIN, BASE, SECONDS, SUMMARY, THRESHOLDS, USER, get } from './target.js';

const changed = new Counter('generations_adopted');

export const options = {
  summaryTrendStats: SUMMARY,
  thresholds: { ...THRESHOLDS, generations_adopted: [`count>=${Math.floor(SECONDS / 2)}`] },
  scenarios: {
    objects: {
      executor: 'constant-arrival-rate',
      rate: Number(__ENV.RATE || 300),
      timeUnit: '1s',
      duration: `${SECONDS}s`,
      preAllocatedVUs: 100,
      maxVUs: 300,
      exec: 'objects',
    },
    downloads: { executor: 'constant-vus', vus: 2, duration: `${SECONDS}s`, exec: 'downloads' },
    operator: { executor: 'constant-vus', vus: 1, duration: `${SECONDS}s`, exec: 'operator' },
  },
};

let generation = 0;

export function objects() {
  get('/public/1k', { bytes: 1024 });
  get('/private/1k', { bytes: 1024, headers: USER });
}

export function downloads() {
  get('/public/10m', { bytes: 10485760 });
}

export function operator() {
  const answer = http.post(`${BASE}/admin/reload`, null, { headers: ADMIN });
  const report = answer.json();
  check(answer, {
    'the reload succeeds': (a) => a.status === 200 && report.status === 'success',
    'the generation rises with a change': () =>
      !report.changed || report.config_generation > generation,
  });
  if (report.changed) changed.add(1);
  generation = report.config_generation;
  sleep(0.5);
}
