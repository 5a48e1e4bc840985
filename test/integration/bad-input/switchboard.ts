import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** A TCP forwarder whose target may change, so that one agent meets different control planes at one address. */
export interface Switchboard extends AsyncDisposable {
  /** `127.0.0.1:<port>` */
  readonly address: string;
  /** Where the next connections go, `host:port`; those that are open stay. */
  lead(target: string): void;
}

/** Starts a forwarder on a free port of 127.0.0.1. */
export async function startSwitchboard(firstTarget: string): Promise<Switchboard> {
  let target = firstTarget;
  const sockets = new Set<Socket>();
  const keep = (socket: Socket): Socket => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    return socket.once('close', () => sockets.delete(socket));
  };
  const server = createServer((near) => {
    const [host, port] = target.split(':');
    const far = keep(connect({ host, port: Number(port) }));
    keep(near).pipe(far).pipe(near);
    near.once('close', () => far.destroy());
    // What was sent before a connection is cut still arrives, as on a wire.
    far.once('close', () => near.destroySoon());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    lead: (next) => {
      target = next;
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      const closed = once(server, 'close');
      server.close();
      await closed;
    },
  };
}
