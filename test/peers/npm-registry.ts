/** What an npm registry answers for one package of one version: its document, and its archive. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

export type Published = {
  /** By request path: what is answered. */
  answers: Map<string, Buffer>;
  /** package.json and package-lock.json of a project that depends on it. */
  project: { manifest: string; lock: string };
};

export function publish(registry: string, name: string, source: string): Published {
  const folder = mkdtempSync(path.join(tmpdir(), 'scriptorium-npm-'));
  try {
    mkdirSync(path.join(folder, 'package'));
    const manifest = { name, version: '1.0.0', main: 'index.js' };
    writeFileSync(path.join(folder, 'package', 'package.json'), JSON.stringify(manifest));
    writeFileSync(path.join(folder, 'package', 'index.js'), source);
    execFileSync('tar', ['-czf', 'archive.tgz', 'package'], { cwd: folder });
    const archive = readFileSync(path.join(folder, 'archive.tgz'));
    const file = `/${name}/-/${name}-1.0.0.tgz`;
    const resolved = `${registry}${file}`;
    const integrity = `sha512-${createHash('sha512').update(archive).digest('base64')}`;
    const version = { ...manifest, dist: { tarball: resolved, integrity } };
    const document = { name, 'dist-tags': { latest: '1.0.0' }, versions: { '1.0.0': version } };
    const project = { name: 'project', version: '1.0.0', dependencies: { [name]: '1.0.0' } };
    const packages = { '': project, [`node_modules/${name}`]: { version: '1.0.0', resolved, integrity } };
    return {
      answers: new Map([
        [`/${name}`, Buffer.from(JSON.stringify(document))],
        [file, archive],
      ]),
      project: {
        manifest: JSON.stringify(project),
        lock: JSON.stringify({
          name: 'project',
          version: '1.0.0',
          lockfileVersion: 3,
          requires: true,
          packages,
        }),
      },
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
