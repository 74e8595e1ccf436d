// Every test of the project, in one run: beside the code it pins (src, rehearsal, scripts) or across folders (test).
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: [
      'src/**/*.test.ts',
      'rehearsal/**/*.test.ts',
      'chaos/**/*.test.ts',
      'attack/**/*.test.ts',
      'test/**/*.test.ts',
      'scripts/**/*.test.ts',
    ],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    watch: false,
  },
});
