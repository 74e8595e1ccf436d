// The architecture test can fail: every rule is fed violations that must be found, and look-alikes that must not.

import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { functionSizeOffences } from './functions.ts';
import { lockOffences, pinOffences, usageOffences } from './packages.ts';
import type { Offence } from './rules.ts';
import {
  cycleOffences,
  escapeHatchOffences,
  fileSizeOffences,
  layerOffences,
  nameOffences,
  openingCommentOffences,
  purityOffences,
  siblingOffences,
} from './rules.ts';
import type { SourceFile } from './source.ts';
import { parseSource } from './source.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');

function sources(files: Record<string, string>): SourceFile[] {
  return Object.entries(files).map(([file, text]) => parseSource(file, text));
}

function places(offences: readonly Offence[]): string[] {
  return offences.map(({ file, line }) => `${file}:${line}`);
}

describe('reading a source', () => {
  it('finds imports of every form, and none inside comments, strings and templates', () => {
    const [file] = sources({
      'src/engine/a.ts': [
        "import x from './one.ts';",
        'import {',
        '  two,',
        "} from '../store/two.ts';",
        "import type { T } from './three.ts';",
        "export * from './four.ts';",
        "export type { U } from './five.ts';",
        "import './six.ts';",
        "const lazy = () => import('./seven.ts');",
        "// import no from './no.ts';",
        'const text = "import no from \'./no.ts\'";',
        "const page = `import no from './no.ts' ${`import('./no.ts')`} import './no.ts'`;",
        "const slash = /import '\\/no.ts'/; const half = 1 / 2; import('./eight.ts');",
      ].join('\n'),
    });
    expect(file?.imports.map((one) => `${one.line} ${one.kind} ${one.target}`).sort()).toEqual([
      '1 static src/engine/one.ts',
      '13 dynamic src/engine/eight.ts',
      '2 static src/store/two.ts',
      '5 type src/engine/three.ts',
      '6 static src/engine/four.ts',
      '7 type src/engine/five.ts',
      '8 static src/engine/six.ts',
      '9 dynamic src/engine/seven.ts',
    ]);
  });

  it('keeps code that follows a template with braces, quotes and nested templates', () => {
    const [file] = sources({ 'src/api/a.ts': "const a = `x ${f({ a: `}'` })} \"`; const b: any = '`';\n" });
    expect(file?.code).toContain('const b: any =');
    expect(file?.code).not.toContain('x');
  });
});

describe('layers', () => {
  it('finds an import of a later folder, also of a type and from a test', () => {
    const planted = sources({
      'src/store/a.ts': "\nimport type { E } from '../engine/e.ts';\n",
      'src/gateway/a.test.ts': "import { b } from '../guard/b.ts';\n",
      'src/engine/ok.ts': "import { s } from '../store/a.ts';\nimport { z } from 'zod';\n",
      'src/main.ts': "import { a } from './api/a.ts';\n",
    });
    expect(places(layerOffences(planted))).toEqual(['src/store/a.ts:2', 'src/gateway/a.test.ts:1']);
  });

  it('finds an import of rehearsal, test and scripts, and a folder that the house does not have', () => {
    const planted = sources({
      'src/model/a.ts':
        "import '../../rehearsal/a.ts';\nimport '../../scripts/b.mjs';\nimport '../../test/c.ts';\n",
      'src/kitchen/a.ts': '',
      'src/index.ts': '',
    });
    expect(places(layerOffences(planted))).toEqual([
      'src/model/a.ts:1',
      'src/model/a.ts:2',
      'src/model/a.ts:3',
      'src/kitchen/a.ts:1',
      'src/index.ts:1',
    ]);
  });

  it('lets a test beside the code use the fake peers of test and rehearsal, but no scripts', () => {
    const text = "import '../../rehearsal/a.ts';\nimport '../../test/c.ts';\nimport '../../scripts/b.mjs';\n";
    expect(places(layerOffences(sources({ 'src/model/a.test.ts': text })))).toEqual([
      'src/model/a.test.ts:3',
    ]);
  });

  it('lets cli use protocol alone, and only commands that start a process reach main.ts, lazily', () => {
    const planted = sources({
      'src/cli/run.ts':
        "import '../protocol/ids.ts';\nimport './up.ts';\nimport '../store/a.ts';\nimport('../main.ts');\n",
      'src/cli/up.ts':
        "const main = () => import('../main.ts');\nimport { main as eager } from '../main.ts';\n",
      'src/engine/a.ts': "import '../main.ts';\n",
    });
    expect(places(layerOffences(planted))).toEqual([
      'src/cli/run.ts:3',
      'src/cli/run.ts:4',
      'src/cli/up.ts:2',
      'src/engine/a.ts:1',
    ]);
  });
});

describe('cycles', () => {
  it('finds a cycle over three files once, and ignores one that only types close', () => {
    const planted = sources({
      'src/api/a.ts': "import './b.ts';\n",
      'src/api/b.ts': "import './c.ts';\n",
      'src/api/c.ts': "\nimport './a.ts';\n",
      'src/api/d.ts': "import './e.ts';\n",
      'src/api/e.ts': "import type { D } from './d.ts';\n",
    });
    const offences = cycleOffences(planted);
    expect(offences).toHaveLength(1);
    expect(offences[0]?.what).toContain('src/api/a.ts -> src/api/b.ts -> src/api/c.ts -> src/api/a.ts');
  });
});

describe('sizes', () => {
  it('finds a file of 401 lines, but not one of 400 or a test', () => {
    const planted = sources({
      'src/api/long.ts': 'a;\n'.repeat(401),
      'src/api/fits.ts': 'a;\n'.repeat(400),
      'src/api/long.test.ts': 'a;\n'.repeat(900),
    });
    expect(places(fileSizeOffences(planted))).toEqual(['src/api/long.ts:401']);
  });

  it('finds a function of 61 lines under the rules of biome.json, but not one of 60 or in a test', () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'scriptorium-architecture-'));
    try {
      const body = (lines: number) => `export function f() {\n${'  f();\n'.repeat(lines)}}\n`;
      for (const name of ['biome.json', '.gitignore'])
        copyFileSync(path.join(ROOT, name), path.join(folder, name));
      mkdirSync(path.join(folder, 'src', 'engine'), { recursive: true });
      writeFileSync(path.join(folder, 'src', 'engine', 'long.ts'), `\n${body(61)}`);
      writeFileSync(path.join(folder, 'src', 'engine', 'fits.ts'), body(60));
      writeFileSync(path.join(folder, 'src', 'engine', 'long.test.ts'), body(61));
      const biome = path.join(ROOT, 'node_modules', '@biomejs', 'biome');
      expect(places(functionSizeOffences(folder, ['src', 'rehearsal'], biome))).toEqual([
        'src/engine/long.ts:2',
      ]);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

describe('escape hatches', () => {
  it('finds any in every type position', () => {
    const planted = sources({
      'src/api/a.ts': [
        'function f(x: any) {}',
        'const a = x as any;',
        'const b = <any>x;',
        'let c: Map<string, any>;',
        'type D = string | any;',
        'function g(): Promise<any[]> {}',
        'type E = any;',
        'const s = z.any();',
        'type F = (a: string, b?: any) => void;',
      ].join('\n'),
    });
    expect(places(escapeHatchOffences(planted))).toEqual(
      [1, 2, 3, 4, 5, 6, 7, 8, 9].map((line) => `src/api/a.ts:${line}`),
    );
  });

  it('does not mistake a word, a name or a method for the type', () => {
    const planted = sources({
      'src/api/a.ts': [
        '// takes any of them: any at all',
        "const text = 'as any';",
        'await Promise.any(list); AbortSignal.any(list);',
        'const rule = { name, any: [1, 2] };',
        'function many(company: string) { return `${company}: any`; }',
      ].join('\n'),
    });
    expect(places(escapeHatchOffences(planted))).toEqual([]);
  });

  it('finds every comment that switches a check off, at its own line', () => {
    const planted = sources({
      'src/api/a.ts':
        '// @ts-ignore\n/*\n * @ts-nocheck\n */\n// biome-ignore lint: because\n// eslint-disable-next-line\n',
    });
    expect(places(escapeHatchOffences(planted))).toEqual([
      'src/api/a.ts:1',
      'src/api/a.ts:3',
      'src/api/a.ts:5',
      'src/api/a.ts:6',
    ]);
  });
});

describe('names, comments, siblings, purity', () => {
  it('finds folders and files whose names say nothing', () => {
    const planted = [
      'src/utils/a.ts',
      'src/api/types/a.ts',
      'src/engine/helpers.ts',
      'src/guard/service.test.ts',
    ];
    const fine = ['src/api/common-headers.ts', 'src/tools/shared-folder.ts', 'src/model/prototypes.ts'];
    expect(nameOffences([...planted, ...fine]).map((one) => one.file)).toEqual(planted);
  });

  it('finds a long file that does not open with its job; a licence line is no job', () => {
    const body = 'a;\n'.repeat(81);
    const planted = sources({
      'src/api/bare.ts': body,
      'src/api/licence.ts': `// SPDX-License-Identifier: Apache-2.0\n${body}`,
      'src/api/told.ts': `#!/usr/bin/env node\n\n/**\n * Serves events from a cursor, in order.\n */\n${body}`,
      'src/api/short.ts': 'a;\n'.repeat(80),
      'src/api/bare.test.ts': body,
    });
    expect(places(openingCommentOffences(planted))).toEqual(['src/api/bare.ts:1', 'src/api/licence.ts:1']);
  });

  it('finds the file that one backend has and its sibling lacks', () => {
    const files = ['src/store/sqlite/append.ts', 'src/store/sqlite/lease.ts', 'src/store/postgres/append.ts'];
    const beside = [
      'src/store/store.ts',
      'src/store/sqlite/append.test.ts',
      'src/store/sqlite/migrations/1.sql',
    ];
    expect(
      siblingOffences([...files, ...beside], 'src/store', ['conformance']).map((one) => one.file),
    ).toEqual(['src/store/postgres/lease.ts']);
  });

  it('finds clock, randomness and I/O in session/, and nowhere else', () => {
    const impure =
      "import { readFile } from 'node:fs';\nDate.now();\nMath.random();\nsetTimeout(f, 1);\nnew Date();\n";
    const planted = sources({
      'src/session/fold.ts': impure,
      'src/session/ok.ts':
        "import { createHash } from 'node:crypto';\nnew Date(event.at);\n// Date.now() would be wrong\n",
      'src/engine/drive.ts': impure,
    });
    expect(places(purityOffences(planted)).sort()).toEqual(
      [1, 2, 3, 4, 5].map((line) => `src/session/fold.ts:${line}`),
    );
  });
});

describe('packages', () => {
  const manifest = (dependencies: Record<string, string>) => JSON.stringify({ dependencies }, null, 2);

  it('finds a loose version, a dependency without a reason, and a reason without a dependency', () => {
    const text = manifest({ zod: '4.6.7', hono: '^4.0.0', diff: '9.0.0' });
    const table = '| `zod` | 4.6.7 | schemas |\n| `hono` | ^4.0.0 | http |\n| `left-pad` | 1.0.0 | pads |\n';
    expect(pinOffences(text, table).map((one) => one.what)).toEqual([
      'hono is not pinned exactly (^4.0.0)',
      'diff 9.0.0 has no row in docs/design/dependencies.md',
      'left-pad is no run-time dependency any more',
    ]);
  });

  it('finds an old version in the document', () => {
    expect(pinOffences(manifest({ zod: '4.6.7' }), '| `zod` | 4.6.6 | schemas |')).toHaveLength(1);
  });

  it('finds a host, an install script and a missing hash in the lockfile', () => {
    const packages = {
      '': {},
      'node_modules/a': { resolved: 'https://registry.example/a.tgz', integrity: 'sha512-x' },
      'node_modules/b/node_modules/c': { hasInstallScript: true, integrity: 'sha512-x' },
      'node_modules/d': {},
    };
    expect(lockOffences(JSON.stringify({ packages }, null, 1)).map((one) => one.what)).toEqual([
      'names a host:   "resolved": "https://registry.example/a.tgz",',
      'c has an install script',
      'd has no integrity hash',
    ]);
  });

  it('finds an unused dependency and an import of something that is none', () => {
    const files = sources({
      'src/api/a.ts':
        "import { z } from 'zod';\nimport { x } from '@hono/node-server/serve';\nimport fs from 'node:fs';\n",
      'src/api/a.test.ts': "import { it } from 'vitest';\n",
    });
    const offences = usageOffences(manifest({ zod: '4.6.7', diff: '9.0.0' }), files);
    expect(offences.map((one) => `${one.file}:${one.line} ${one.what}`)).toEqual([
      'package.json:4 diff is imported nowhere in src/',
      'src/api/a.ts:2 imports @hono/node-server, which is no run-time dependency',
    ]);
  });
});
