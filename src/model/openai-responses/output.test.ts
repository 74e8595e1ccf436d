import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Json, JsonObject } from '../../protocol/json.ts';
import { createReading, readOutput, readUsage, stopOf } from './output.ts';

const begun = { type: 'reasoning', id: 'rs_1', summary: [], encrypted_content: 'begun' };
const final = { ...begun, encrypted_content: 'final' };

function completed(output: Json[]): JsonObject {
  return { type: 'response.completed', response: { id: 'resp_1', output } };
}

describe('a reading', () => {
  it('takes items from their own events, not from an announcement or a summary that says less', () => {
    const reading = createReading();
    reading.accept({ type: 'response.output_item.added', output_index: 0, item: begun });
    reading.accept({ type: 'response.output_item.done', output_index: 0, item: final });
    reading.accept(completed([begun]));
    expect(reading.items()).toEqual([final]);
  });

  it('keeps the items of a provider whose summary is empty, and of one that sends nothing but a summary', () => {
    const events = createReading();
    events.accept({ type: 'response.output_item.done', output_index: 1, item: { type: 'b' } });
    events.accept({ type: 'response.output_item.done', output_index: 0, item: { type: 'a' } });
    events.accept(completed([]));
    expect(events.items()).toEqual([{ type: 'a' }, { type: 'b' }]);
    const summary = createReading();
    summary.accept(completed([final]));
    expect(summary.items()).toEqual([final]);
  });

  it('never throws, whatever a provider sends', () => {
    const types = [
      'response.output_item.added',
      'response.output_item.done',
      'response.output_text.delta',
      'response.completed',
      'response.incomplete',
      'response.failed',
      'reasoning',
      'message',
      'function_call',
    ];
    const value = fc.letrec<{ any: Json }>((tie) => ({
      any: fc.oneof(
        { maxDepth: 4 },
        fc.constantFrom<Json>(null, 0, -1, 1.5, '', 'x', ...types),
        fc.array(tie('any'), { maxLength: 3 }),
        fc.dictionary(
          fc.constantFrom(
            'type',
            'item',
            'output',
            'output_index',
            'response',
            'content',
            'usage',
            'error',
            'arguments',
          ),
          tie('any'),
          { noNullPrototype: true },
        ),
      ),
    })).any;
    const event = fc.tuple(fc.constantFrom(...types), value).map(([type, rest]) => {
      return typeof rest === 'object' && rest !== null && !Array.isArray(rest) ? { ...rest, type } : rest;
    });
    fc.assert(
      fc.property(fc.array(event, { maxLength: 8 }), (events) => {
        const reading = createReading();
        for (const one of events) reading.accept(one);
        const output = readOutput(reading.items());
        const ending = reading.ending();
        if (ending !== null) {
          stopOf(ending, output);
          readUsage(ending.response);
        }
        for (const { index } of output) expect(reading.items()[index]).toBeDefined();
      }),
    );
  });
});
