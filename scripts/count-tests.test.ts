// The count that CI closes with never hides a failure.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it } from 'vitest';

const passed = { status: 'passed' };
const failed = { status: 'failed' };
const skipped = { status: 'skipped' };

function count(report: unknown, exitCode: number): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'scriptorium-count-'));
  try {
    const file = path.join(folder, 'report.json');
    if (report !== undefined) writeFileSync(file, JSON.stringify(report));
    const program = path.join(import.meta.dirname, 'count-tests.mjs');
    return spawnSync(process.execPath, [program, file, String(exitCode)], { encoding: 'utf8' }).stdout.trim();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

it('counts tests, and leaves out the skipped', () => {
  const testResults = [
    { status: 'passed', assertionResults: [passed, passed, skipped] },
    { status: 'failed', assertionResults: [passed, failed] },
  ];
  expect(count({ testResults }, 1)).toBe('3 1');
});

it('counts a file that did not load as one failure', () => {
  const testResults = [
    { status: 'passed', assertionResults: [passed] },
    { status: 'failed', assertionResults: [] },
  ];
  expect(count({ testResults }, 1)).toBe('1 1');
});

it('counts an error outside of every test, a missing report and an empty run as one failure', () => {
  expect(count({ testResults: [{ status: 'passed', assertionResults: [passed] }] }, 1)).toBe('1 1');
  expect(count(undefined, 1)).toBe('0 1');
  expect(count({ testResults: [] }, 0)).toBe('0 1');
});
