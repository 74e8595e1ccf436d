import { describe, expect, it } from 'vitest';
import { isUnknown, modelConfigOf, modelFor } from './catalogue.ts';

describe('the catalogue', () => {
  it('finds no model without a key, and says which one is missing', () => {
    const found = modelFor('gpt-6.1-sol', modelConfigOf({}));
    expect(isUnknown(found) && found.unknown).toContain('OPENAI_API_KEY');
    expect(isUnknown(modelFor(' ', { apiKey: 'k' }))).toBe(true);
  });

  it('gives every id of one configuration the same model, so that connections and renderers are shared', () => {
    const config = modelConfigOf({ OPENAI_API_KEY: 'k', OPENAI_BASE_URL: '' });
    expect(config.baseURL).toBeNull();
    expect(modelFor('gpt-6.1-sol', config)).toBe(modelFor('gpt-6-luna', config));
    expect(modelFor('gpt-6.1-sol', config)).toMatchObject({ provider: 'openai', wire: 'openai-responses' });
  });
});
