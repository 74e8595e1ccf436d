/**
 * Content blocks as clients send them (managed-agents-protocol.md §5.3). What is accepted here is exactly what the
 * stored shapes of `content.ts` can hold; the rest of the protocol's blocks is refused with what to send instead.
 */
import { z } from 'zod';
import { unavailable } from './fields.ts';

const textBlock = z.strictObject({ type: z.literal('text'), text: z.string().min(1) });

const imageSource = z.discriminatedUnion(
  'type',
  [
    z.strictObject({
      type: z.literal('base64'),
      media_type: z.enum(['image/png', 'image/jpeg', 'image/gif', 'image/webp']),
      data: z.base64().min(1),
    }),
    z.strictObject({ type: z.literal('url'), url: z.url({ protocol: /^https?$/ }).max(8192) }),
  ],
  {
    error: (issue) =>
      sourceType(issue.input) === 'file'
        ? unavailable('images by file_id are', 'send the image as base64')
        : undefined,
  },
);

const imageBlock = z.strictObject({ type: z.literal('image'), source: imageSource });

const documentSource = z.discriminatedUnion(
  'type',
  [z.strictObject({ type: z.literal('text'), media_type: z.literal('text/plain'), data: z.string().min(1) })],
  {
    error: (issue) =>
      ['file', 'base64', 'url'].includes(String(sourceType(issue.input)))
        ? unavailable(
            `documents by ${sourceType(issue.input)} are`,
            'send the text as {"type":"text","media_type":"text/plain","data":…}, or mount the file in the session',
          )
        : undefined,
  },
);

const documentBlock = z.strictObject({
  type: z.literal('document'),
  source: documentSource,
  title: z.string().max(1024).nullish(),
  context: z.string().max(65_536).nullish(),
});

const refusedBlock = (input: unknown): string | undefined => {
  const type = sourceType(input);
  if (type === 'redacted') return 'redacted blocks are only ever sent by the server';
  return type === 'search_result'
    ? unavailable('search_result blocks are', 'send the text as a text block')
    : undefined;
};

export const contentBlockParams = z.discriminatedUnion('type', [textBlock, imageBlock, documentBlock], {
  error: (issue) => refusedBlock(issue.input),
});

export type ContentBlockParams = z.infer<typeof contentBlockParams>;

function sourceType(input: unknown): unknown {
  return input !== null && typeof input === 'object' && 'type' in input ? input.type : undefined;
}
