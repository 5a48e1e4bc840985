import { spawn, spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect } from 'node:net';
import packets, { type DecodedPacket, type Packet } from 'dns-packet';

export interface DnsServerAddress {
  readonly address: string;
  readonly port: number;
}

export interface DnsQuestion {
  readonly name: string;
  readonly type?: 'A' | 'AAAA' | 'TXT';
  readonly protocol?: 'udp' | 'tcp';
  /** Without EDNS an answer over UDP has at most 512 bytes, and is not asked for again over TCP. */
  readonly isPlain?: boolean;
}

/** What a client of DNS has understood. */
export interface DnsLookup {
  /** `NOERROR`, `NXDOMAIN`, `SERVFAIL`, ... */
  readonly status: string;
  readonly flags: readonly string[];
  /** `name type data`, in order; names without the dot at the end. */
  readonly answers: readonly string[];
}

/** Whether look-ups are done by dig; else by a small client of our own. */
export const isDigThere = spawnSync('dig', ['-v']).error === undefined;

const timeoutSeconds = 10;

/** Runs dig and gives all it says. */
export async function dig(server: DnsServerAddress, ...args: readonly string[]): Promise<string> {
  const where = [`@${server.address}`, '-p', String(server.port)];
  const child = spawn('dig', [...where, '+tries=1', `+time=${timeoutSeconds}`, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(child, 'close');
  return Buffer.concat(chunks).toString();
}

/** Asks a server, by dig where it is installed. Throws Error when no answer comes. */
export async function lookUpAt(server: DnsServerAddress, question: DnsQuestion): Promise<DnsLookup> {
  if (!isDigThere) return askDirectly(server, question);
  const { name, type = 'A', protocol = 'udp', isPlain = false } = question;
  const output = await dig(
    server,
    name,
    type,
    ...(protocol === 'tcp' ? ['+tcp'] : ['+notcp']),
    ...(isPlain ? ['+noedns', '+ignore'] : []),
  );
  const status = /status: ([A-Z]+)/.exec(output)?.[1];
  if (status === undefined || /Warning|malformed|extra bytes/.test(output)) {
    throw new Error(`dig got no whole answer for ${name}:\n${output}`);
  }
  const lines = output.split('\n').filter((line) => line !== '' && !line.startsWith(';'));
  return {
    status,
    flags: (/flags: ([a-z ]+);/.exec(output)?.[1] ?? '').split(' '),
    answers: lines.map((line) => {
      const [owner = '', , , recordType = '', ...data] = line.split(/\s+/);
      return [owner, recordType, data.join(' ')].map(withoutDot).join(' ');
    }),
  };
}

/** Asks a server without a program of its own. Throws Error when no answer comes. */
export async function askDirectly(server: DnsServerAddress, question: DnsQuestion): Promise<DnsLookup> {
  const { name, type = 'A', protocol = 'udp', isPlain = false } = question;
  const query: Packet = {
    type: 'query',
    id: 4711,
    flags: packets.RECURSION_DESIRED,
    questions: [{ type, name }],
    ...(isPlain
      ? {}
      : {
          additionals: [
            {
              type: 'OPT',
              name: '.',
              udpPayloadSize: 1232,
              extendedRcode: 0,
              ednsVersion: 0,
              flags: 0,
              flag_do: false,
              options: [],
            },
          ],
        }),
  };
  const answer = protocol === 'tcp' ? await askTcp(server, query) : await askUdp(server, query);
  return describePacket(answer);
}

async function askUdp(server: DnsServerAddress, query: Packet): Promise<DecodedPacket> {
  const socket = createSocket(server.address.includes(':') ? 'udp6' : 'udp4');
  try {
    const signal = AbortSignal.timeout(timeoutSeconds * 1000);
    socket.send(packets.encode(query), server.port, server.address);
    const [answer] = (await once(socket, 'message', { signal })) as [Buffer];
    return packets.decode(answer);
  } finally {
    socket.close();
  }
}

async function askTcp(server: DnsServerAddress, query: Packet): Promise<DecodedPacket> {
  const socket = connect(server.port, server.address);
  socket.setTimeout(timeoutSeconds * 1000, () => socket.destroy(new Error('no answer in time')));
  socket.end(packets.streamEncode(query));
  const chunks: Buffer[] = [];
  for await (const chunk of socket as AsyncIterable<Buffer>) chunks.push(chunk);
  return packets.streamDecode(Buffer.concat(chunks)) as DecodedPacket;
}

function describePacket(packet: DecodedPacket): DnsLookup {
  const flags = { qr: true, aa: packet.flag_aa, tc: packet.flag_tc, rd: packet.flag_rd, ra: packet.flag_ra };
  return {
    // The type definitions lack it.
    status: (packet as { readonly rcode?: string }).rcode ?? '',
    flags: Object.entries(flags).flatMap(([name, isSet]) => (isSet ? [name] : [])),
    answers: (packet.answers ?? []).map((answer) => {
      const data = 'data' in answer && typeof answer.data === 'string' ? answer.data : '';
      return [answer.name, answer.type, data].map(withoutDot).join(' ');
    }),
  };
}

function withoutDot(text: string): string {
  return text.endsWith('.') ? text.slice(0, -1) : text;
}
