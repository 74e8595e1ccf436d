/** Carries bytes both ways, as they are, until one side is done (S2: the place was decided before). */
import type { Socket } from 'node:net';

export type Carried = (sent: number, received: number) => void;

/** Each side may end its half first; a reset of one resets the other. */
export function tunnel(inside: Socket, outside: Socket, carried: Carried): void {
  inside.on('data', (chunk: Buffer) => carried(chunk.length, 0));
  outside.on('data', (chunk: Buffer) => carried(0, chunk.length));
  tie(inside, outside);
  inside.pipe(outside);
  outside.pipe(inside);
}

/** An error of one is the end of both. */
export function tie(one: Socket, other: Socket): void {
  one.once('error', () => other.resetAndDestroy());
  other.once('error', () => one.resetAndDestroy());
  one.once('close', () => other.destroySoon());
  other.once('close', () => one.destroySoon());
}
