import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';

/** Tool output kept for error messages. */
const maxOutputCharacters = 64 * 1024;

/**
 * Runs a tool to its end and collects its output. `code` is undefined when the tool is not there.
 * Aborting `signal` ends it.
 */
export async function runTool(command, args, { cwd, env = process.env, signal } = {}) {
  let output = '';
  const child = spawn(command, args, { cwd, env, signal, stdio: ['ignore', 'pipe', 'pipe'] });
  const take = (chunk) => {
    output = (output + chunk).slice(-maxOutputCharacters);
  };
  child.stdout.setEncoding('utf8').on('data', take);
  child.stderr.setEncoding('utf8').on('data', take);
  const code = await new Promise((resolve, reject) => {
    child.on('error', (error) => {
      if (error.code === 'ENOENT' || error.code === 'EACCES') resolve(undefined);
      // An aborted tool is given up only when it is gone: its folder is removed next.
      else if (error.name !== 'AbortError') reject(error);
    });
    child.once('close', (exitCode) => resolve(exitCode ?? 1));
  });
  signal?.throwIfAborted();
  return { code, output };
}

/**
 * Holds the lock of a folder on this machine while `work` runs; a second process waits. The lock is a listening
 * socket in Linux's abstract namespace: it goes with its process, so none is ever stale.
 */
export async function withLock(folder, { signal, onWait }, work) {
  const path = `\0ferry-setup-${createHash('sha256').update(folder).digest('hex')}`;
  for (;;) {
    signal?.throwIfAborted();
    const waiting = new Set();
    const holder = createServer((socket) => {
      waiting.add(socket);
      socket.on('error', () => undefined).once('close', () => waiting.delete(socket));
    });
    try {
      holder.listen(path);
      await once(holder, 'listening');
    } catch (error) {
      if (error.code !== 'EADDRINUSE') throw error;
      onWait?.();
      await untilReleased(path, signal);
      continue;
    }
    try {
      return await work();
    } finally {
      holder.close();
      for (const socket of waiting) socket.destroy();
    }
  }
}

/** Resolves when the process that holds the lock lets go of it: its end of a connection closes. */
async function untilReleased(path, signal) {
  const socket = connect(path);
  socket.resume();
  const abort = () => socket.destroy();
  signal?.addEventListener('abort', abort, { once: true });
  await new Promise((resolve) => {
    socket.on('error', () => undefined);
    socket.once('close', resolve);
  });
  signal?.removeEventListener('abort', abort);
}
