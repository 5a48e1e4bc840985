import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { ScrapeClock } from '../../../agent/status/scrape-clock.ts';
import { scrapeDeadline } from '../../../agent/status/scrape-deadline.ts';
import { ScrapeError } from '../../../agent/status/scrape-error.ts';

test('headers, then Envoy, then everything is over; without an application Envoy has all the time', async () => {
  const clientGone = new AbortController().signal;
  const order: string[] = [];
  const withApplication = new ScrapeClock(scrapeDeadline('0.05'), { hasApplication: true, clientGone });
  withApplication.envoy.addEventListener('abort', () => order.push('envoy'));
  const headersSeen = withApplication.headersOver.then(() => order.push('headers'));
  await once(withApplication.total, 'abort');
  await headersSeen;
  assert.deepEqual(order, ['headers', 'envoy']);
  for (const { reason } of [withApplication.envoy, withApplication.total]) {
    assert.ok(reason instanceof ScrapeError && reason.code === 'timeout');
  }
  withApplication.close();
  const alone = new ScrapeClock(scrapeDeadline('0.05'), { hasApplication: false, clientGone });
  await once(alone.envoy, 'abort');
  assert.match((alone.envoy.reason as Error).message, /within 45 ms/);
  alone.close();
});

test('the loss of the client ends all waits with its reason', async () => {
  const client = new AbortController();
  const clock = new ScrapeClock(scrapeDeadline(undefined), {
    hasApplication: true,
    clientGone: client.signal,
  });
  const reason = new Error('gone');
  client.abort(reason);
  await clock.headersOver;
  assert.equal(clock.total.reason, reason);
  assert.equal(clock.envoy.reason, reason);
  clock.close();
});

test('close ends whoever still fetches', () => {
  const clock = new ScrapeClock(scrapeDeadline(undefined), {
    hasApplication: true,
    clientGone: new AbortController().signal,
  });
  clock.close();
  assert.ok(clock.total.aborted);
  assert.ok(clock.envoy.aborted);
});
