import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import type { TestContext } from 'node:test';
import packets, { type Answer, type DecodedPacket, type Packet } from 'dns-packet';

export interface UpstreamQuery {
  readonly protocol: 'udp' | 'tcp';
  readonly bytes: Buffer;
  readonly packet: DecodedPacket;
  /** Sends these bytes as the answer; several times if called so. */
  readonly send: (bytes: Buffer) => void;
  /** Breaks the connection; TCP only. */
  readonly destroy: () => void;
}

/** A nameserver on loopback over both protocols. */
export interface UpstreamPeer {
  readonly endpoint: { readonly address: string; readonly port: number };
  readonly queries: readonly UpstreamQuery[];
}

async function bindUdp(address: string, port: number): Promise<UdpSocket | undefined> {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  socket.bind(port, address);
  try {
    await once(socket, 'listening');
    return socket;
  } catch {
    socket.close();
    return undefined;
  }
}

/** Closed with the test. With a `port` rejects when that cannot be had; without takes a free one. */
export async function startUpstream(
  t: TestContext,
  handle: (query: UpstreamQuery) => void,
  address = '127.0.0.1',
  wantedPort = 0,
): Promise<UpstreamPeer> {
  const queries: UpstreamQuery[] = [];
  const sockets = new Set<Socket>();
  const take = (query: UpstreamQuery): void => {
    queries.push(query);
    handle(query);
  };
  for (;;) {
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => undefined);
      let held = Buffer.alloc(0);
      socket.on('data', (chunk: Buffer) => {
        held = Buffer.concat([held, chunk]);
        while (held.length >= 2 && held.length >= 2 + held.readUInt16BE(0)) {
          const bytes = held.subarray(2, 2 + held.readUInt16BE(0));
          held = held.subarray(2 + bytes.length);
          const send = (answer: Buffer): void => void socket.write(framed(answer));
          take({
            protocol: 'tcp',
            bytes,
            packet: packets.decode(bytes),
            send,
            destroy: () => socket.destroy(),
          });
        }
      });
    });
    server.listen(wantedPort, address);
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const udp = await bindUdp(address, port);
    if (udp === undefined) {
      server.close();
      if (wantedPort !== 0) throw new Error(`UDP port ${port} of ${address} cannot be had`);
      continue;
    }
    udp.on('message', (bytes, peer) => {
      const send = (answer: Buffer): void => udp.send(answer, peer.port, peer.address);
      take({ protocol: 'udp', bytes, packet: packets.decode(bytes), send, destroy: () => undefined });
    });
    t.after(async () => {
      for (const socket of sockets) socket.destroy();
      await Promise.all([
        new Promise((resolve) => {
          server.close(resolve);
        }),
        new Promise<void>((resolve) => {
          udp.close(() => resolve());
        }),
      ]);
    });
    return { endpoint: { address, port }, queries };
  }
}

/** An answer of an upstream to a query. */
export function answerTo(query: UpstreamQuery, answers: Answer[], more: Partial<Packet> = {}): Buffer {
  return packets.encode({
    type: 'response',
    id: query.packet.id ?? 0,
    questions: query.packet.questions ?? [],
    answers,
    ...more,
  });
}

export function framed(message: Buffer): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(message.length);
  return Buffer.concat([length, message]);
}

/** The bytes of a query for one name. */
export function encodeQuery(
  name: string,
  type: 'A' | 'AAAA' | 'TXT' | 'HTTPS' = 'A',
  more: Packet = {},
): Buffer {
  const questions = [{ type: type as 'A', name }];
  return packets.encode({ type: 'query', id: 4711, flags: packets.RECURSION_DESIRED, questions, ...more });
}

/** Sends bytes to a DNS server over UDP and waits for its answer. */
export async function askUdp(
  endpoint: { readonly address: string; readonly port: number },
  message: Buffer,
): Promise<Buffer> {
  const socket = createSocket(endpoint.address.includes(':') ? 'udp6' : 'udp4');
  try {
    socket.send(message, endpoint.port, endpoint.address);
    const [answer] = (await once(socket, 'message')) as [Buffer];
    return answer;
  } finally {
    socket.close();
  }
}

/** Sends queries over one TCP connection, half-closes it, and collects the answers. */
export async function askTcp(
  endpoint: { readonly address: string; readonly port: number },
  messages: readonly Buffer[],
): Promise<readonly Buffer[]> {
  const socket = connect(endpoint.port, endpoint.address);
  socket.end(Buffer.concat(messages.map(framed)));
  const chunks: Buffer[] = [];
  for await (const chunk of socket as AsyncIterable<Buffer>) chunks.push(chunk);
  let held = Buffer.concat(chunks);
  const answers: Buffer[] = [];
  while (held.length > 0) {
    answers.push(held.subarray(2, 2 + held.readUInt16BE(0)));
    held = held.subarray(2 + held.readUInt16BE(0));
  }
  return answers;
}
