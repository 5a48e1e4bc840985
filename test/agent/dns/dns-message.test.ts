import assert from 'node:assert/strict';
import { test } from 'node:test';
import packets from 'dns-packet';
import * as fc from 'fast-check';
import {
  answerLimitBytes,
  encodeFailure,
  encodeLocalAnswer,
  encodeRefusal,
  fitAnswer,
} from '../../../agent/dns/dns-answer.ts';
import { encodeName, isDnsName, skipName } from '../../../agent/dns/dns-message.ts';
import { type DnsQuery, isAnswerTo, readQuery } from '../../../agent/dns/dns-query.ts';
import { encodeQuery } from './dns-peers.ts';

function queryOf(message: Buffer): DnsQuery {
  const reading = readQuery(message);
  assert.equal(reading.kind, 'query');
  return (reading as { query: DnsQuery }).query;
}

/** The type of the package leaves it out. */
const rcodeOf = (packet: object): unknown => (packet as { rcode?: unknown }).rcode;

const withEdns = (udpPayloadSize: number, flags = 0, ednsVersion = 0) => ({
  additionals: [
    {
      type: 'OPT' as const,
      name: '.',
      udpPayloadSize,
      extendedRcode: 0,
      ednsVersion,
      flags,
      flag_do: false,
      options: [],
    },
  ],
});

test('a query is read with its name in lower case and its EDNS size', () => {
  const { question, edns, id, flags } = queryOf(
    encodeQuery('WWW.Example.Com', 'AAAA', withEdns(4096, 0x8000)),
  );
  assert.deepEqual(
    { name: question.name, type: question.type, class: question.class, id, edns, rd: flags & 0x100 },
    {
      name: 'www.example.com.',
      type: 28,
      class: 1,
      id: 4711,
      edns: { payloadBytes: 4096, version: 0, isDnssecWanted: true },
      rd: 0x100,
    },
  );
});

test('a dot inside of a label is not the end of one', () => {
  const message = Buffer.concat([
    Buffer.from('000100000001000000000000', 'hex'),
    Buffer.from([3, 0x61, 0x2e, 0x62, 2, 0xc3, 0xa4, 1, 0x5c, 0, 0, 1, 0, 1]),
  ]);
  assert.equal(queryOf(message).question.name, 'a\\046b.\\195\\164.\\092.');
});

const header = (flags: number, ...counts: readonly number[]): Buffer =>
  Buffer.from([0, 7, flags >> 8, flags & 255, ...counts.flatMap((count) => [count >> 8, count & 255])]);
const question = Buffer.from('0161000001 0001'.replaceAll(' ', ''), 'hex');

const readings: readonly (readonly [string, Buffer, string, number?])[] = [
  ['nothing', Buffer.alloc(0), 'ignored'],
  ['half a header', Buffer.alloc(11), 'ignored'],
  ['an answer', Buffer.concat([header(0x8000, 1, 0, 0, 0), question]), 'ignored'],
  ['a zone update', Buffer.concat([header(0x2800, 1, 0, 0, 0), question]), 'refused', 4],
  ['no question', header(0, 0, 0, 0, 0), 'refused', 1],
  ['two questions', Buffer.concat([header(0, 2, 0, 0, 0), question, question]), 'refused', 1],
  ['a question that is cut', Buffer.concat([header(0, 1, 0, 0, 0), question.subarray(0, 5)]), 'refused', 1],
  [
    'a name of pointers',
    Buffer.concat([header(0, 1, 0, 0, 0), Buffer.from('c00c00010001', 'hex')]),
    'refused',
    1,
  ],
  ['a label over the end', Buffer.concat([header(0, 1, 0, 0, 0), Buffer.from('3f61', 'hex')]), 'refused', 1],
  [
    'a name of more than 255 bytes',
    Buffer.concat([
      header(0, 1, 0, 0, 0),
      ...Array.from({ length: 128 }, () => Buffer.from('0161', 'hex')),
      question,
    ]),
    'refused',
    1,
  ],
  [
    'a record that is cut',
    Buffer.concat([header(0, 1, 0, 0, 1), question, Buffer.from('000029', 'hex')]),
    'refused',
    1,
  ],
  ['good bytes', Buffer.concat([header(0, 1, 0, 0, 0), question]), 'query'],
];

for (const [name, message, kind, code] of readings) {
  test(`a message with ${name} is ${kind}${code === undefined ? '' : ` with code ${code}`}`, () => {
    const reading = readQuery(message);
    assert.equal(reading.kind, kind);
    if (reading.kind !== 'refused') return;
    assert.equal(reading.code, code);
    const refusal = packets.decode(encodeRefusal(message, reading.code));
    assert.deepEqual([refusal.id, refusal.type, refusal.questions?.length], [7, 'response', 0]);
    assert.equal(encodeRefusal(message, reading.code).readUInt16BE(2) & 15, code);
  });
}

const four = (count: number): Buffer[] =>
  Array.from({ length: count }, (_, index) => Buffer.from([10, 0, index >> 8, index & 255]));

test('an answer has the asked name in the letters it was asked by, TTL 30 and the AA bit', () => {
  const query = queryOf(encodeQuery('WwW.example.com'));
  const bytes = encodeLocalAnswer(query, { cnameTarget: undefined, addresses: four(2) }, 512);
  const answer = packets.decode(bytes);
  assert.deepEqual(
    answer.answers?.map((record) => ({ ...record })),
    ['10.0.0.0', '10.0.0.1'].map((data) => ({
      name: 'WwW.example.com',
      type: 'A',
      ttl: 30,
      class: 'IN',
      flush: false,
      data,
    })),
  );
  assert.deepEqual(
    [answer.id, answer.flag_aa, answer.flag_rd, answer.flag_ra, answer.flag_tc, rcodeOf(answer)],
    [4711, true, true, true, false, 'NOERROR'],
  );
  assert.equal(answer.additionals?.length, 0);
});

test('a CNAME comes first, its address records have its target as name', () => {
  const query = queryOf(encodeQuery('db.data.shop.svc.cluster.local', 'AAAA', withEdns(1232)));
  const address = Buffer.from('fd000000000000000000000000000001', 'hex');
  const answer = packets.decode(
    encodeLocalAnswer(query, { cnameTarget: 'db.data.', addresses: [address] }, 1232),
  );
  assert.deepEqual(
    answer.answers?.map(({ name, type, ...record }) => [name, type, (record as { data: unknown }).data]),
    [
      ['db.data.shop.svc.cluster.local', 'CNAME', 'db.data'],
      ['db.data', 'AAAA', 'fd00::1'],
    ],
  );
  assert.deepEqual(
    answer.additionals?.map((record) => (record as { udpPayloadSize?: number }).udpPayloadSize),
    [1232],
  );
});

test('without an address of the family the answer is empty, without the CNAME', () => {
  const query = queryOf(encodeQuery('db.data.shop'));
  const answer = packets.decode(encodeLocalAnswer(query, { cnameTarget: 'db.data.', addresses: [] }, 512));
  assert.deepEqual([answer.answers?.length, rcodeOf(answer), answer.flag_aa], [0, 'NOERROR', true]);
});

test('what does not fit is cut, and the TC bit says so', () => {
  const query = queryOf(encodeQuery('many.example.com'));
  const addresses = four(60);
  const cut = encodeLocalAnswer(query, { cnameTarget: undefined, addresses }, 512);
  assert.equal(packets.decode(cut).flag_tc, true);
  assert.equal(packets.decode(cut).answers?.length, Math.floor((512 - query.question.end) / 16));
  const whole = packets.decode(encodeLocalAnswer(query, { cnameTarget: undefined, addresses }, 4096));
  assert.deepEqual([whole.flag_tc, whole.answers?.length], [false, 60]);
});

test('the longest names fit into the smallest answer', () => {
  const label = 'y'.repeat(60);
  const name = [label, label, label, label].join('.');
  const query = queryOf(encodeQuery(name, 'A', withEdns(512)));
  const bytes = encodeLocalAnswer(query, { cnameTarget: `${name}.`, addresses: four(1) }, 512);
  assert.ok(bytes.length <= 512);
  assert.equal(packets.decode(bytes).flag_tc, true);
});

test('a newer EDNS version is answered with BADVERS', () => {
  const query = queryOf(encodeQuery('a.example', 'A', withEdns(1232, 0, 1)));
  const answer = packets.decode(
    encodeLocalAnswer(query, { cnameTarget: undefined, addresses: four(1) }, 512),
  );
  const [opt] = answer.additionals ?? [];
  assert.deepEqual([answer.answers?.length, (opt as { extendedRcode?: number }).extendedRcode], [0, 1]);
});

test('a failure repeats the question', () => {
  const answer = packets.decode(encodeFailure(queryOf(encodeQuery('a.example', 'AAAA')), 2));
  assert.deepEqual(
    [rcodeOf(answer), answer.questions?.[0]?.name, answer.flag_aa],
    ['SERVFAIL', 'a.example', false],
  );
});

const limits: readonly (readonly ['udp' | 'tcp', number | undefined, number])[] = [
  ['udp', undefined, 512],
  ['udp', 100, 512],
  ['udp', 1232, 1232],
  ['udp', 65_535, 65_507],
  ['tcp', undefined, 65_535],
  ['tcp', 512, 65_535],
];

for (const [protocol, payloadBytes, expected] of limits) {
  test(`an answer over ${protocol} with EDNS size ${payloadBytes} has at most ${expected} bytes`, () => {
    const edns = payloadBytes === undefined ? {} : withEdns(payloadBytes);
    assert.equal(answerLimitBytes(protocol, queryOf(encodeQuery('a.example', 'A', edns))), expected);
  });
}

test('only an answer with the same id and question is one', () => {
  const query = queryOf(encodeQuery('a.example'));
  const answer = (name: string, more: packets.Packet = {}): Buffer =>
    packets.encode({ type: 'response', id: 4711, questions: [{ type: 'A', name }], ...more });
  assert.ok(isAnswerTo(query, answer('A.Example')));
  assert.ok(!isAnswerTo(query, answer('b.example')));
  assert.ok(!isAnswerTo(query, answer('a.example', { id: 4712 })));
  assert.ok(!isAnswerTo(query, answer('a.example', { type: 'query' })));
  assert.ok(!isAnswerTo(query, answer('a.example', { questions: [{ type: 'AAAA', name: 'a.example' }] })));
  assert.ok(!isAnswerTo(query, answer('a.example', { questions: [] })));
  assert.ok(isAnswerTo(query, answer('a.example', { questions: [], flags: 1 })));
  assert.ok(!isAnswerTo(query, Buffer.alloc(5)));
});

test('an upstream answer that is too long loses whole records from its end, and keeps its OPT record', () => {
  const answers = Array.from({ length: 100 }, (_, index) => ({
    type: 'A' as const,
    name: 'a.example',
    ttl: 1,
    data: `10.0.0.${index}`,
  }));
  const authorities = [{ type: 'NS' as const, name: 'example', ttl: 1, data: 'ns.example' }];
  const { additionals } = withEdns(4096);
  const whole = packets.encode({
    type: 'response',
    id: 1,
    questions: [{ type: 'A', name: 'a.example' }],
    answers,
    authorities,
    additionals: [{ type: 'A', name: 'ns.example', data: '1.1.1.1' }, ...additionals],
  });
  assert.equal(fitAnswer(whole, whole.length), whole);
  const cut = fitAnswer(whole, 512);
  assert.ok(cut !== undefined && cut.length <= 512 && cut.length > 512 - 40);
  const decoded = packets.decode(cut);
  assert.equal(decoded.flag_tc, true);
  assert.deepEqual(
    decoded.answers?.map((record) => (record as { data?: unknown }).data),
    answers.slice(0, decoded.answers?.length).map(({ data }) => data),
  );
  assert.deepEqual([decoded.authorities?.length, decoded.additionals?.map(({ type }) => type)], [0, ['OPT']]);
});

test('a cut answer is a message of the size allowed, whatever records it had', () => {
  const name = fc.constantFrom('a.example', 'long-label-in-front.of.a.example', 'x');
  const record = fc.oneof(
    name.map((name): packets.Answer => ({ type: 'A', name, ttl: 5, data: '1.2.3.4' })),
    fc
      .tuple(name, fc.string({ maxLength: 200 }))
      .map(([name, data]): packets.Answer => ({ type: 'TXT', name, ttl: 5, data: [data] })),
    name.map(
      (name): packets.Answer => ({
        type: 'OPT',
        name: '.',
        udpPayloadSize: name.length,
        extendedRcode: 0,
        ednsVersion: 0,
        flags: 0,
        flag_do: false,
        options: [],
      }),
    ),
  );
  const records = fc.array(record, { maxLength: 12 });
  fc.assert(
    fc.property(
      records,
      records,
      records,
      fc.integer({ min: 60, max: 1500 }),
      (answers, authorities, additionals, limit) => {
        const whole = packets.encode({
          type: 'response',
          questions: [{ type: 'A', name: 'a.example' }],
          answers,
          authorities,
          additionals,
        });
        const cut = fitAnswer(whole, limit);
        assert.ok(cut !== undefined && cut.length <= Math.max(limit, 0));
        packets.decode(cut);
        if (whole.length > limit) assert.equal(packets.decode(cut).flag_tc, true);
      },
    ),
    { seed: 7, numRuns: 1000, interruptAfterTimeLimit: 2000 },
  );
});

test('no bytes break the reader, and every query that is read can be answered', () => {
  const bytes = fc.uint8Array({ maxLength: 80 }).map((bytes) => Buffer.from(bytes));
  const almost = fc.tuple(bytes, fc.integer({ min: 0, max: 60 })).map(([noise, at]) => {
    const message = encodeQuery('almost.example.com', 'A', withEdns(900));
    noise.copy(message, at);
    return message;
  });
  fc.assert(
    fc.property(fc.oneof(bytes, almost), (message) => {
      const reading = readQuery(message);
      if (reading.kind === 'refused') encodeRefusal(message, reading.code);
      if (reading.kind !== 'query') return;
      const { query } = reading;
      const limit = answerLimitBytes('udp', query);
      const answer = encodeLocalAnswer(query, { cnameTarget: 'x.example.', addresses: four(40) }, limit);
      assert.ok(answer.length <= limit);
      assert.ok(isAnswerTo(query, answer));
    }),
    { seed: 7, numRuns: 5000, interruptAfterTimeLimit: 2000 },
  );
});

test('cutting garbage is a shorter message or nothing', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 12, maxLength: 120 }),
      fc.integer({ min: 20, max: 60 }),
      (bytes, limit) => {
        const cut = fitAnswer(Buffer.from(bytes), limit);
        assert.ok(cut === undefined || cut.length <= limit);
      },
    ),
    { seed: 7, numRuns: 5000, interruptAfterTimeLimit: 1000 },
  );
});

test('names of the table are written as they are read, others are no DNS names', () => {
  for (const name of ['a.', '*.example.com.', 'under_score.x.', 'a-b.c.']) {
    assert.ok(isDnsName(name));
    assert.equal(skipName(encodeName(name), 0), name.length + 1);
  }
  for (const name of [
    '',
    '.',
    'a',
    'a..b.',
    'ä.',
    'a b.',
    'a\\.b.',
    `${'x'.repeat(64)}.`,
    'x.'.repeat(128),
  ]) {
    assert.ok(!isDnsName(name), name);
  }
});
