// Preloaded into the server where the bench asks what sleepers hold: collects garbage on a message, so that what is left
// lying about is not counted. Keeps nothing alive.

process.on('message', () => {
  globalThis.gc?.();
  process.send?.('collected');
});
process.channel?.unref();
