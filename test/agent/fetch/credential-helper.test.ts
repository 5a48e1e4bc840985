import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import test from 'node:test';
import { CredentialHelpers } from '../../../agent/fetch/credential-helper.ts';

test('an answer counts for five minutes from its run, however often it is asked for', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'ferry-helper-'));
  t.after(() => rm(folder, { recursive: true }));
  const program = join(folder, 'docker-credential-counting');
  const runs = join(folder, 'runs');
  // The password is the number of the run.
  const answer = `echo "{\\"Username\\":\\"ann\\",\\"Secret\\":\\"$(wc -c < ${runs} | tr -d ' ')\\"}"`;
  await writeFile(program, `#!/bin/sh\nprintf . >> ${runs}\n${answer}\n`);
  await chmod(program, 0o755);
  let nowMs = 1_000;
  const helpers = new CredentialHelpers({
    path: [folder, process.env['PATH']].join(delimiter),
    nowMs: () => nowMs,
  });
  const { signal } = new AbortController();
  const ask = async (): Promise<string> => {
    const given = await helpers.get({ helper: 'counting', server: 'registry.example' }, { signal });
    assert.equal(given.kind, 'basic');
    return given.kind === 'basic' ? given.password : '';
  };
  const seen: string[] = [];
  for (let minute = 0; minute < 7; minute += 1) {
    seen.push(await ask());
    nowMs += 60_000;
  }
  assert.deepEqual(seen, ['1', '1', '1', '1', '1', '1', '2']);
  assert.equal((await readFile(runs, 'utf8')).length, 2);
});
