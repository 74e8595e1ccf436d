/**
 * The attack can say no: each protection is taken out of the real processes (`sabotage.*`), and the rows that name it must
 * turn red. Those that do not touch each other's rows are taken out together. That all rows are green without it is
 * test/attack.test.ts.
 */
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';

const program = path.resolve(import.meta.dirname, 'main.ts');

type Report = { held: boolean; rows: { id: string; verdict: string; broken: boolean; why: string }[] };

/** By protection: the rows that must notice, and in what words. */
const groups: Record<string, Record<string, RegExp>>[] = [
  {
    'no-seccomp': {
      'kernel.socket.vsock': /answered done/,
      'kernel.keyctl': /answered done/,
      'kernel.io_uring_setup': /answered done/,
    },
    'foreign-init': { 'kernel.init.environ': /answered done/ },
    'writable-root': { 'kernel.create.root': /answered done/ },
    'host-tmp': {
      'files.outside': /a secret was seen inside/,
      'files.links-and-write': /changed a folder of the host/,
    },
    'raw-terminal': { 'words.terminal': /control character/ },
  },
  {
    // Not with the kernel's probes: they would try the network of this machine.
    'host-network': { 'doors.host-loopback': /a secret was seen inside/ },
    'no-limits': { 'bombs.forks': /unbounded 400/, 'bombs.tmpfs-tmp': /300000000/ },
    'any-server-name': { 'tls.other-server-name': /reached the world/ },
    'dial-private': { 'net.rebinding': /a secret was seen inside/ },
    'no-byte-cap': { 'caps.bytes': /reached the world/ },
    'any-host': { 'http.other-host': /reached the world/ },
    'secret-in-clear': { 'secret.in-clear': /the secret left for the world/ },
    'no-redaction': { 'secret.echo': /a secret was seen inside/ },
  },
  {
    'any-name': { 'dns.tunnel': /not the expected answer/ },
    'any-connection': { 'net.other-port': /reached the world/ },
  },
];
/** Holds whatever is taken out: a run in which everything is red says nothing. */
const control = 'processes.kill-all';

async function attackWithout(protections: string[], rows: string[]): Promise<Report> {
  const args = ['--json', '--sabotage', protections.join(','), '--only', [...rows, control].join(',')];
  const flags = ['--disable-warning=ExperimentalWarning', program];
  const ran = await promisify(execFile)(process.execPath, [...flags, ...args]).catch(
    (error: { code: number; stdout: string }) => error,
  );
  expect('code' in ran ? ran.code : 0).toBe(1);
  return JSON.parse(ran.stdout);
}

describe.each(groups)('the attack notices where', (group) => {
  let report: Report;
  beforeAll(async () => {
    const rows = Object.values(group).flatMap((noticing) => Object.keys(noticing));
    report = await attackWithout(Object.keys(group), rows);
  }, 150_000);

  it.each(Object.entries(group))('%s', (_, noticing) => {
    for (const [id, why] of Object.entries(noticing))
      expect(report.rows.find((row) => row.id === id)).toMatchObject({
        broken: true,
        why: expect.stringMatching(why),
      });
  });

  it('nothing else is out', () => {
    expect(report.rows.find(({ id }) => id === control)).toMatchObject({ verdict: 'held' });
  });
});
