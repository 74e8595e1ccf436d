// Preloaded into the server where the bench asks what sleepers hold: collects garbage on a message, so that what is left
// lying about is not counted, and answers with the bytes that are still in use. Keeps nothing alive.

process.on('message', () => {
  // The last resort also gives back the pages that an idle heap gives back in its own time.
  globalThis.gc?.({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  const { heapUsed, external } = process.memoryUsage();
  process.send?.(heapUsed + external);
});
process.channel?.unref();
