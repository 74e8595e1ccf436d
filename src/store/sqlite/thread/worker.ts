/**
 * The database's thread: takes requests, commits them in groups, answers. It keeps fsync and cryptography off the
 * caller's event loop. While a commit runs, requests queue in the port; the next commit takes them all.
 */

import type { MessagePort } from 'node:worker_threads';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { makeDurableDirectory } from '../../durable-files.ts';
import type { Summarize } from '../../store.ts';
import type { Database } from '../database.ts';
import { openDatabase } from '../database.ts';
import { failureOf } from '../failures.ts';
import { executeBatch, forgetInWal } from '../group-commit.ts';
import type { DirectoryLock } from '../lock.ts';
import { lockDirectory } from '../lock.ts';
import type { FromWorker, Request, WorkerOptions } from './wire.ts';

/** Bounds how long the first of a batch waits for the last. */
const maxBatch = 512;

async function main(port: MessagePort, options: WorkerOptions): Promise<void> {
  const send = (message: FromWorker): void => port.postMessage(message);
  try {
    const module = (await import(options.summarizeModule)) as { summarize: Summarize };
    makeDurableDirectory(options.directory, 0o700);
    const locked = lockDirectory(options.directory);
    if (locked.status === 'refused') return send({ type: 'refused', refusal: locked.refusal });
    const opened = openDatabase(options.directory, module.summarize, options.maxPages);
    if (opened.status === 'refused') {
      locked.lock.release();
      return send({ type: 'refused', refusal: opened.refusal });
    }
    serve(port, opened.database, locked.lock);
    send({ type: 'ready' });
    // A crash may have left the frames of an erased key behind.
    forgetInWal(opened.database);
  } catch (error) {
    send({ type: 'failed', failure: failureOf(error) });
  }
}

function serve(port: MessagePort, database: Database, lock: DirectoryLock): void {
  port.on('message', (first: Request[]) => {
    const queue = first;
    let next = receiveMessageOnPort(port);
    while (next !== undefined) {
      queue.push(...(next.message as Request[]));
      next = receiveMessageOnPort(port);
    }
    for (let at = 0; at < queue.length; at += maxBatch) {
      const batch = queue.slice(at, at + maxBatch);
      const outcome = executeBatch(database, batch);
      const isLast = batch.some((request) => request.op === 'close');
      if (isLast) {
        database.db.close();
        lock.release();
      }
      port.postMessage({ type: 'replies', ...outcome } satisfies FromWorker);
      if (isLast) return port.close();
    }
  });
}

if (parentPort !== null) await main(parentPort, workerData as WorkerOptions);
