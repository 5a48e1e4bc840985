import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type LogLevel, type LogOptions, LogRoot, logScopes } from '../../agent/log.ts';

const now = () => new Date('2026-08-22T20:00:00.123Z');

function kept(options: Partial<LogOptions> = {}): { readonly root: LogRoot; readonly lines: string[] } {
  const lines: string[] = [];
  const root = new LogRoot({
    format: 'text',
    levels: new Map(),
    now,
    write: (line) => lines.push(line),
    ...options,
  });
  return { root, lines };
}

describe('a line of text', () => {
  test('has the stock columns: time with six digits, level, scope but for the default, message, labels', () => {
    const { root, lines } = kept();
    root.scope('default').info('Envoy proxy is ready');
    root.scope('xdsproxy').warn('stream ended', { code: 14, reason: 'gone\nback', none: undefined });
    assert.deepEqual(lines, [
      '2026-08-22T20:00:00.123000Z\tinfo\tEnvoy proxy is ready\n',
      '2026-08-22T20:00:00.123000Z\twarn\txdsproxy\tstream ended\tcode=14 reason=gone\\nback\n',
    ]);
  });
});

describe('what others have written', () => {
  const hostile = 'a\nb\rc\td\u001b[2Je\u009bf\u007fg\u2028h\u2029i\u0000';

  test('makes no line, no column and no command of a terminal in text', () => {
    const { root, lines } = kept();
    root.scope('wasm').warn('failed', { reason: hostile });
    assert.deepEqual(lines, [
      '2026-08-22T20:00:00.123000Z\twarn\twasm\tfailed\treason=' +
        String.raw`a\nb\rc\td\u001b[2Je\u009bf\u007fg\u2028h\u2029i\u0000` +
        '\n',
    ]);
  });

  test('makes no line and no command of a terminal in JSON, and reads back as it was', () => {
    const { root, lines } = kept({ format: 'json' });
    root.scope('wasm').warn('failed', { reason: hostile });
    const [line = ''] = lines;
    // oxlint-disable-next-line no-control-regex
    assert.doesNotMatch(line.trimEnd(), /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/);
    assert.equal((JSON.parse(line) as { reason?: unknown }).reason, hostile);
  });
});

describe('a line of JSON', () => {
  test('has the stock keys in the stock order, then the labels', () => {
    const { root, lines } = kept({ format: 'json' });
    root.scope('default').info('ready');
    root.scope('wasm').error('failed', { plugin: 'a', tries: 2 });
    assert.deepEqual(lines, [
      '{"level":"info","time":"2026-08-22T20:00:00.123000Z","msg":"ready"}\n',
      '{"level":"error","time":"2026-08-22T20:00:00.123000Z","scope":"wasm","msg":"failed","plugin":"a","tries":2}\n',
    ]);
  });

  test('keeps its own columns when a label has the name of one', () => {
    const { root, lines } = kept({ format: 'json' });
    root.scope('wasm').info('text', { level: 'x', msg: 'y' });
    const line = JSON.parse(lines[0] ?? '') as Record<string, unknown>;
    assert.deepEqual([line['level'], line['msg']], ['info', 'text']);
  });
});

describe('levels', () => {
  const written = (levels: Readonly<Record<string, LogLevel>>): readonly string[] => {
    const { root, lines } = kept({ levels: new Map(Object.entries(levels)) });
    for (const scope of ['default', 'wasm']) {
      const log = root.scope(scope);
      log.debug(`${scope} debug`);
      log.info(`${scope} info`);
      log.error(`${scope} error`);
    }
    return lines.map((line) => line.trimEnd().split('\t').at(-1) ?? '');
  };

  test('are by scope, with default for the rest and all over every one', () => {
    assert.deepEqual(written({ default: 'error', wasm: 'debug' }), [
      'default error',
      'wasm debug',
      'wasm info',
      'wasm error',
    ]);
    assert.deepEqual(written({ default: 'none' }), []);
    assert.deepEqual(written({ all: 'error', wasm: 'debug' }), ['default error', 'wasm error']);
  });

  test('change while the process runs, for loggers made before too, and go back', () => {
    const { root, lines } = kept({ levels: new Map([['default', 'info']]) });
    const log = root.scope('wasm');
    log.debug('one');
    root.setLevel('wasm', 'debug');
    log.debug('two');
    assert.equal(log.isEnabled('debug'), true);
    root.resetLevels();
    log.debug('three');
    assert.equal(root.levelOf('wasm'), 'info');
    assert.deepEqual(
      lines.map((line) => line.split('\t').at(-1)),
      ['two\n'],
    );
  });
});

test('every scope that the sources log to is in the list', () => {
  const folder = fileURLToPath(new URL('../../agent', import.meta.url));
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  );
  const used = new Set(
    files.flatMap((name) =>
      [...readFileSync(join(folder, name), 'utf8').matchAll(/\.scope\('(\w+)'\)/g)].map(
        (match) => match[1] ?? '',
      ),
    ),
  );
  assert.ok(used.has('xdsproxy') && used.has('default'));
  assert.deepEqual(
    [...used].filter((scope) => !(logScopes as readonly string[]).includes(scope)),
    [],
  );
});
