/**
 * What an agent, a file or a server said, made safe to print.
 *
 * Promise: the result holds no escape sequence, no control character but line feed and tab, and nothing that turns the
 * direction of writing, so that no text can move the cursor, retitle the window, fill the clipboard or hide what it says.
 */
import { failpoints, sabotaged } from '../../protocol/failpoint.ts';

const STRING_SEQUENCE = /(?:\x1b[PX^_\]]|[\x90\x98\x9d-\x9f])[^\x1b\x07\x9c]*(?:\x1b\\|\x07|\x9c|$)/g;
const CSI_SEQUENCE = /(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]/g;
const OTHER_SEQUENCE = /\x1b[ -/]*[0-~]/g;
const CONTROLS = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/g;
const DIRECTIONS = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

export function safeText(text: string): string {
  if (failpoints.on && sabotaged('sabotage.raw-terminal')) return text;
  return text
    .replace(STRING_SEQUENCE, '')
    .replace(CSI_SEQUENCE, '')
    .replace(OTHER_SEQUENCE, '')
    .replace(/\r\n?/g, '\n')
    .replace(CONTROLS, '')
    .replace(DIRECTIONS, '')
    .toWellFormed();
}

/** One line of at most `width` columns; a wide character counts as two. */
export function oneLine(text: string, width: number): string {
  const flat = safeText(text).replace(/\s+/g, ' ').trim();
  let columns = 0;
  let out = '';
  for (const character of flat) {
    columns += widthOf(character);
    if (columns > width - 1) return `${out}…`;
    out += character;
  }
  return out;
}

function widthOf(character: string): number {
  if (/\p{Mn}|\p{Me}|\u200d/u.test(character)) return 0;
  return /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Extended_Pictographic}/u.test(
    character,
  )
    ? 2
    : 1;
}
