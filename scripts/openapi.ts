#!/usr/bin/env node
// Writes openapi.json from the operations: `npm run openapi`. A test fails while the file is out of date.

import { writeFileSync } from 'node:fs';
import packageJson from '../package.json' with { type: 'json' };
import { openApiDocument } from '../src/api/openapi.ts';

const file = new URL('../openapi.json', import.meta.url);
writeFileSync(file, `${JSON.stringify(openApiDocument(packageJson.version), null, 2)}\n`);
