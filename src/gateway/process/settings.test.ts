import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createAuthority } from '../authority.ts';
import { BadNetworkSettings, checkNetworkSettings } from './settings.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'scriptorium-settings-'));
  await writeFile(path.join(folder, 'text'), 'root:x:0:0\n');
  await writeFile(
    path.join(folder, 'torn'),
    '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n',
  );
  await writeFile(path.join(folder, 'good'), (await createAuthority('the world')).pem.repeat(2));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

it('malformed settings of the network are told before anything starts, each in its own words', () => {
  const wrong: [Parameters<typeof checkNetworkSettings>[0], RegExp][] = [
    [{ pins: ['nonsense'] }, /nonsense is no pin/],
    [{ pins: ['a.example=127.0.0.1:70000'] }, /is no pin/],
    [{ privateNetworks: ['10.0.0.0/33'] }, /no address range/],
    [{ authoritiesFile: path.join(folder, 'nowhere') }, /cannot be used: ENOENT/],
    [{ authoritiesFile: path.join(folder, 'text') }, /has no certificate/],
    [{ authoritiesFile: path.join(folder, 'torn') }, /cannot be used/],
  ];
  for (const [settings, words] of wrong) {
    expect(() => checkNetworkSettings(settings)).toThrow(BadNetworkSettings);
    expect(() => checkNetworkSettings(settings)).toThrow(words);
  }
  const authoritiesFile = path.join(folder, 'good');
  checkNetworkSettings({
    pins: ['a.example=10.0.0.1:8443'],
    privateNetworks: ['10.1.0.0/16'],
    authoritiesFile,
  });
});
