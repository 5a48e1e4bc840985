import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { recordCpuProfile, samplingInterval } from '../../../agent/status/cpu-profile.ts';
import { parseSeconds, profileRoutes } from '../../../agent/status/profile-routes.ts';
import { ask, RecordingLog, startRoutes } from './status-fixture.ts';

interface CpuProfile {
  readonly nodes: readonly { readonly callFrame: { readonly functionName: string } }[];
  readonly samples: readonly number[];
}

describe('the length of a profile', () => {
  test('is a whole number of seconds within its bounds', () => {
    assert.equal(parseSeconds(''), 10);
    assert.equal(parseSeconds('seconds=1'), 1);
    assert.equal(parseSeconds('seconds=60'), 60);
    for (const query of ['seconds=0', 'seconds=61', 'seconds=', 'seconds=1.5', 'second=1', 'seconds=1&x=2']) {
      assert.equal(parseSeconds(query), undefined, query);
    }
  });

  test('bounds the number of samples', () => {
    assert.equal(samplingInterval(1_000), 1_000);
    assert.equal((60_000 * 1_000) / samplingInterval(60_000), 30_000);
  });
});

describe('/debug/profile/cpu', () => {
  test('gives a profile of this process, one at a time', async () => {
    const log = new RecordingLog();
    await using server = await startRoutes(profileRoutes(log), log);
    const first = ask(server.port, '/debug/profile/cpu?seconds=1');
    await log.waitFor('recording a CPU profile');
    const second = await ask(server.port, '/debug/profile/cpu?seconds=1');
    assert.equal(second.status, 429);
    assert.equal(second.body.toString(), 'a profile is being recorded: one at a time\n');
    const { status, headers, body } = await first;
    assert.equal(status, 200);
    assert.equal(headers['content-type'], 'application/json');
    const profile = JSON.parse(body.toString()) as CpuProfile;
    assert.ok(profile.nodes.some(({ callFrame }) => callFrame.functionName === '(root)'));
    assert.ok(profile.samples.length > 0);
  });

  test('ends with the client, and the next one is free', async () => {
    const log = new RecordingLog();
    await using server = await startRoutes(profileRoutes(log), log);
    const leaving = new AbortController();
    const left = ask(server.port, '/debug/profile/cpu?seconds=60', { signal: leaving.signal });
    await log.waitFor('recording a CPU profile');
    leaving.abort();
    await assert.rejects(left);
    for (;;) {
      const { status } = await ask(server.port, '/debug/profile/cpu?seconds=1');
      if (status === 200) break;
      assert.equal(status, 429);
    }
  });

  test('refuses other lengths', async () => {
    const log = new RecordingLog();
    await using server = await startRoutes(profileRoutes(log), log);
    const { status, body } = await ask(server.port, '/debug/profile/cpu?seconds=3600');
    assert.equal(status, 400);
    assert.equal(body.toString(), 'seconds is a whole number from 1 to 60\n');
  });

  test('rejects with the reason of its signal, before and while it records', async () => {
    const gone = new AbortController();
    const recording = recordCpuProfile(60_000, { signal: gone.signal });
    const reason = new Error('gone');
    gone.abort(reason);
    await assert.rejects(recording, reason);
    await assert.rejects(recordCpuProfile(1, { signal: gone.signal }), reason);
  });
});

describe('the other pages of profiling', () => {
  test('give heap numbers, and say what is in the place of pprof', async () => {
    const log = new RecordingLog();
    await using server = await startRoutes(profileRoutes(log), log);
    const heap = await ask(server.port, '/debug/profile/heap');
    assert.equal(heap.status, 200);
    const page = JSON.parse(heap.body.toString()) as { process: { rss: number }; spaces: readonly unknown[] };
    assert.ok(page.process.rss > 0 && page.spaces.length > 0);
    for (const path of [
      '/debug/pprof',
      '/debug/pprof/',
      '/debug/pprof/heap',
      '/debug/pprof/profile?seconds=5',
    ]) {
      const { status, body } = await ask(server.port, path);
      assert.equal(status, 501, path);
      assert.match(body.toString(), /Node\.js.*\n.*\/debug\/profile\/cpu\?seconds=10/);
    }
  });
});
