import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { JsonObject } from '../protocol/json.ts';
import { operations } from './native/operations.ts';
import { openApiDocument } from './openapi.ts';

const root = new URL('../../', import.meta.url);
const { version } = JSON.parse(readFileSync(new URL('package.json', root), 'utf8')) as { version: string };
const document = openApiDocument(version);

describe('openapi.json', () => {
  it('is what the operations are now (npm run openapi writes it)', () => {
    expect(JSON.parse(readFileSync(new URL('openapi.json', root), 'utf8'))).toEqual(document);
  });

  it('describes every operation once, with its errors', () => {
    const described = Object.values(document.paths as Record<string, Record<string, JsonObject>>).flatMap(
      (methods) => Object.values(methods),
    );
    const ids = described.map((one) => one.operationId);
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids).toEqual(expect.arrayContaining(operations.map((one) => one.id)));
    for (const one of described) {
      if (one.security) continue;
      expect(Object.keys(one.responses as JsonObject)).toEqual(
        expect.arrayContaining(['200', '400', '401', '500', '503']),
      );
    }
  });

  it('refers only to schemas that are there', () => {
    const { schemas } = document.components as { schemas: JsonObject };
    const references = [...JSON.stringify(document).matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)];
    expect(references.length).toBeGreaterThan(50);
    for (const [, id] of references) expect(schemas).toHaveProperty(id ?? '');
    expect(JSON.stringify(document)).not.toContain('__shared');
  });
});
