import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type NetConnectOpts, type Socket } from 'node:net';
import type { TestContext } from 'node:test';

/** A byte proxy that can stop forwarding while its connections stay open (half-open), or spoil what passes. */
export interface StallingProxy {
  /** `host:port`, or the path it listens on. */
  readonly address: string;
  stall(): void;
  /** Puts bytes of its own into what the clients receive. */
  inject(bytes: Buffer): void;
}

/** Listens on the path, or on a free port of the loopback address. */
export async function startStallingProxy(
  t: TestContext,
  target: NetConnectOpts,
  listenPath?: string,
): Promise<StallingProxy> {
  const sockets = new Set<Socket>();
  const clients = new Set<Socket>();
  let isStalled = false;
  const forward = (from: Socket, to: Socket): void => {
    sockets.add(from);
    from.on('error', () => undefined);
    from.on('data', (chunk) => {
      if (!isStalled) to.write(chunk);
    });
    from.once('close', () => {
      if (!isStalled) to.destroy();
    });
  };
  const server = createServer((client) => {
    clients.add(client);
    const upstream = connect(target);
    forward(client, upstream);
    forward(upstream, client);
  });
  if (listenPath === undefined) server.listen(0, '127.0.0.1');
  else server.listen(listenPath);
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return {
    address: listenPath ?? `127.0.0.1:${(server.address() as AddressInfo).port}`,
    stall() {
      isStalled = true;
    },
    inject(bytes) {
      for (const client of clients) client.write(bytes);
    },
  };
}
