import { createServer } from 'node:net';

/**
 * Ports are taken from here: below Linux's range for outgoing connections (32768 and up), so that no client takes
 * one in between, and above the agent's well-known ports (15000 to 15090).
 */
const firstPort = 16_000;
const blockCount = 160;
const portsInBlock = 100;

const portCount = blockCount * portsInBlock;

/**
 * Test files run at the same time in processes with other numbers: each process begins with a block of its own, and goes
 * on to the next only when it needs very many.
 */
let next = (process.pid % blockCount) * portsInBlock;

/**
 * `count` different TCP ports that were free on all addresses a moment ago, for a program that must be told its port
 * before it starts. Throws Error when there are not as many.
 */
export async function freePorts(count: number): Promise<readonly number[]> {
  const ports: number[] = [];
  for (let tried = 0; ports.length < count; tried += 1) {
    if (tried === portCount || count > portCount) {
      throw new Error(
        `Of the ports ${firstPort} to ${firstPort + portCount - 1}, fewer than ${count} are free.`,
      );
    }
    const port = firstPort + next;
    next = (next + 1) % portCount;
    if (await isFree(port)) ports.push(port);
  }
  return ports;
}

function isFree(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const server = createServer();
  server.once('error', () => resolve(false));
  server.listen({ port, host: '0.0.0.0', exclusive: true }, () => server.close(() => resolve(true)));
  return promise;
}
