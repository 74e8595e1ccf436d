/** What an operator says of the network, read where it can still be told: before anything starts. */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { addressRules } from '../addresses.ts';
import { parsePin } from '../upstream.ts';

/** What the operator says of the network cannot be used. */
export class BadNetworkSettings extends Error {
  override name = 'BadNetworkSettings';
}

const certificateBlock = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g;

/** The file's text, one newline at its end; throws `BadNetworkSettings` where it cannot be read or has no certificates. */
export function authoritiesOf(file: string | undefined): string[] {
  if (file === undefined) return [];
  try {
    const text = readFileSync(file, 'utf8').trimEnd();
    const blocks = text.match(certificateBlock) ?? [];
    for (const block of blocks) new X509Certificate(block);
    if (blocks.length === 0) throw new Error('it has no certificate; write them as PEM');
    return [`${text}\n`];
  } catch (error) {
    throw new BadNetworkSettings(`${file} cannot be used: ${(error as Error).message}`);
  }
}

/** Throws `BadNetworkSettings` with the first that is malformed. */
export function checkNetworkSettings(settings: {
  pins?: readonly string[];
  privateNetworks?: readonly string[];
  authoritiesFile?: string;
}): void {
  try {
    for (const pin of settings.pins ?? []) parsePin(pin);
    addressRules(settings.privateNetworks);
  } catch (error) {
    throw new BadNetworkSettings((error as Error).message);
  }
  authoritiesOf(settings.authoritiesFile);
}
