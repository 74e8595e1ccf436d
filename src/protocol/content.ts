/**
 * Content blocks of messages and tool results (managed-agents-protocol.md §5.3). The zod schemas that accept them at
 * the door are in `requests`; these are the stored shapes.
 */
export type TextBlock = { type: 'text'; text: string };

export type ImageBlock = {
  type: 'image';
  source: { type: 'base64'; media_type: string; data: string } | { type: 'url'; url: string };
};

export type DocumentBlock = {
  type: 'document';
  source: { type: 'text'; media_type: 'text/plain'; data: string };
  title?: string;
  context?: string;
};

export type ContentBlock = TextBlock | ImageBlock | DocumentBlock;

/** The text of the blocks, joined by line breaks; other blocks are named in brackets. */
export function textOf(content: readonly ContentBlock[]): string {
  return content.map((block) => (block.type === 'text' ? block.text : `[${block.type}]`)).join('\n');
}
