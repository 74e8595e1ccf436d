import { describe, expect, it } from 'vitest';
import { isolationOf, isolationProblem, mergedIsolation } from './isolation.ts';

describe('the isolation of an environment', () => {
  it("is the server's own where nobody said anything", () => {
    for (const own of ['none', 'bubblewrap', 'gvisor'] as const) expect(isolationOf({}, own)).toBe(own);
  });

  it('is exactly what was said, on a server without isolation, too', () => {
    expect(isolationOf({ isolation: 'namespace' }, 'gvisor')).toBe('bubblewrap');
    expect(isolationOf({ isolation: 'namespace' }, 'none')).toBe('bubblewrap');
    expect(isolationOf({ isolation: 'gvisor' }, 'bubblewrap')).toBe('gvisor');
  });

  it('is never weaker than its minimum, and as strong as the server is by itself', () => {
    expect(isolationOf({ minimum_isolation: 'namespace' }, 'none')).toBe('bubblewrap');
    expect(isolationOf({ minimum_isolation: 'gvisor' }, 'bubblewrap')).toBe('gvisor');
    expect(isolationOf({ minimum_isolation: 'namespace' }, 'gvisor')).toBe('gvisor');
  });

  it('is refused where what is asked is weaker than the minimum', () => {
    expect(isolationProblem({ isolation: 'namespace', minimum_isolation: 'gvisor' })).toContain('weaker');
    expect(isolationProblem({ isolation: 'gvisor', minimum_isolation: 'namespace' })).toBeNull();
    expect(isolationProblem({ isolation: null, minimum_isolation: 'gvisor' })).toBeNull();
  });

  it('keeps what an update omits, and forgets what it sets to null', () => {
    const before = { isolation: 'gvisor', minimum_isolation: 'namespace' } as const;
    expect(mergedIsolation(before, undefined)).toEqual(before);
    expect(mergedIsolation(before, { isolation: undefined })).toEqual(before);
    expect(mergedIsolation(before, { isolation: null })).toEqual({ minimum_isolation: 'namespace' });
    expect(mergedIsolation({}, { minimum_isolation: 'gvisor' })).toEqual({ minimum_isolation: 'gvisor' });
  });
});
