#!/usr/bin/env node
// Prints "<passed> <failed>" from a vitest JSON report, for .ci/run: `count-tests.mjs <report> <exit code of vitest>`.
// Never hides a failure: a file that did not load, an error outside of any test, or a missing report each count.

import { readFileSync } from 'node:fs';

const [file = '', exitCode = '1'] = process.argv.slice(2);
const { passed, failed } = count(read(file), Number(exitCode));
console.log(`${passed} ${failed}`);

function count(report, code) {
  const files = report?.testResults ?? [];
  const tests = files.flatMap((one) => one.assertionResults ?? []);
  const unloaded = files.filter(
    (one) => one.status === 'failed' && !(one.assertionResults ?? []).some(isFailed),
  );
  const passed = tests.filter((test) => test.status === 'passed').length;
  const failed = tests.filter(isFailed).length + unloaded.length;
  return { passed, failed: failed === 0 && (code !== 0 || passed === 0) ? 1 : failed };
}

function isFailed(test) {
  return test.status === 'failed';
}

function read(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}
