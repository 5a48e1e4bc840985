/**
 * Loaded into the agent's process before the agent (`node --import`): answers each connection to SOAK_PROBE_SOCKET with
 * one line of JSON about the process, after two full collections of garbage. Changes nothing else.
 */
import { createServer } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** What the probe tells. */
export interface ProbeAnswer {
  /** After the collections. */
  readonly heapUsedBytes: number;
  /** Memory of buffers outside of the heap. */
  readonly externalBytes: number;
  /** What keeps or could keep the loop alive, by kind (`process.getActiveResourcesInfo`): timers, sockets, requests. */
  readonly resources: Readonly<Record<string, number>>;
}

const socketPath = process.env['SOAK_PROBE_SOCKET'];
// Children of the agent must not take the place of the agent.
delete process.env['SOAK_PROBE_SOCKET'];
delete process.env['NODE_OPTIONS'];

if (socketPath !== undefined) {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    collect();
    // Finalizers of the first collection let go of more.
    setImmediate(() => {
      collect();
      const { heapUsed, external } = process.memoryUsage();
      const resources: Record<string, number> = {};
      for (const kind of process.getActiveResourcesInfo()) resources[kind] = (resources[kind] ?? 0) + 1;
      const answer: ProbeAnswer = { heapUsedBytes: heapUsed, externalBytes: external, resources };
      socket.end(`${JSON.stringify(answer)}\n`);
    });
  });
  server.listen(socketPath);
  server.unref();
}
