import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { describe, test } from 'node:test';
import { Steps, stepStyle } from '../support/steps.mjs';

/** A stream that is, or is not, a terminal, and keeps what is written. */
function streamThat(isTerminal: boolean): { stream: NodeJS.WriteStream; text: () => string } {
  const stream = Object.assign(new PassThrough(), { isTTY: isTerminal, columns: 40 });
  return {
    stream: stream as unknown as NodeJS.WriteStream,
    text: () => ((stream.read() as Buffer | null) ?? Buffer.alloc(0)).toString('utf8'),
  };
}

describe('steps', () => {
  test('are plain lines with ticks and times where there is no terminal', async () => {
    const { stream, text } = streamThat(false);
    const steps = new Steps(stream, {});
    steps.heading('Title');
    const value = await steps.run('First', async (step) => {
      step.note('working');
      step.detail('42 bytes');
      return 42;
    });
    assert.equal(value, 42);
    await assert.rejects(
      steps.run('Second', () => Promise.reject(new Error('broken'))),
      /broken/,
    );
    assert.match(text(), /^Title\n✔ First: 42 bytes \(\d+\.\d s\)\n✘ Second \(\d+\.\d s\)\n$/);
  });

  test('move and have colours on a terminal, and lines that would wrap are cut', async () => {
    const { stream, text } = streamThat(true);
    await new Steps(stream, {}).run(
      'A long title that does not fit into forty columns',
      async () => undefined,
    );
    const shown = text();
    assert.ok(shown.includes('\r\u001b[K') && shown.includes('\u001b[32m✔\u001b[0m'));
    const [spinner = ''] = shown.split('\r\u001b[K').slice(1);
    assert.ok(spinner.length < 40);
  });

  const styles = [
    [true, {}, { isTerminal: true, hasColour: true }],
    [true, { NO_COLOR: '1' }, { isTerminal: true, hasColour: false }],
    [true, { NO_COLOR: '' }, { isTerminal: true, hasColour: true }],
    [true, { TERM: 'dumb' }, { isTerminal: true, hasColour: false }],
    [false, {}, { isTerminal: false, hasColour: false }],
  ] as const;
  for (const [isTerminal, environment, style] of styles) {
    test(`style on ${isTerminal ? 'a terminal' : 'a pipe'} with ${JSON.stringify(environment)}`, () => {
      assert.deepEqual(stepStyle(streamThat(isTerminal).stream, environment), style);
    });
  }
});
