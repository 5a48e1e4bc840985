import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Policy } from '../../../agent/policy/policy-data.ts';
import { loadPolicyFile, type PolicyLoad } from '../../../agent/policy/policy-file.ts';
import type { PolicyProblem } from '../../../agent/policy/policy-problem.ts';

/** A temporary folder with a policy file in it. */
export interface PolicyFolder extends AsyncDisposable {
  readonly path: string;
  /** Absolute path of `policy.yaml` in it. */
  readonly file: string;
  /** Writes a file beside the policy; returns its absolute path. */
  write(name: string, contents: string | Uint8Array): Promise<string>;
}

export async function createPolicyFolder(): Promise<PolicyFolder> {
  const path = await mkdtemp(join(tmpdir(), 'ferry-policy-'));
  return {
    path,
    file: join(path, 'policy.yaml'),
    async write(name, contents) {
      const target = join(path, name);
      await mkdir(dirname(target), { recursive: true });
      await writeFile(target, contents);
      return target;
    },
    [Symbol.asyncDispose]: async () => rm(path, { recursive: true, force: true }),
  };
}

/** Loads a text as a policy file of its own folder, with other files beside it. */
export async function load(
  text: string,
  others: Readonly<Record<string, string | Uint8Array>> = {},
): Promise<PolicyLoad> {
  await using folder = await createPolicyFolder();
  for (const [name, contents] of Object.entries(others)) await folder.write(name, contents);
  await folder.write('policy.yaml', text);
  return await loadPolicyFile(folder.file);
}

/** The policy of a text without faults. */
export async function policyOf(
  text: string,
  others: Readonly<Record<string, string | Uint8Array>> = {},
): Promise<Policy> {
  const loaded = await load(text, others);
  assert.equal(loaded.kind, 'loaded', JSON.stringify(loaded, undefined, 1));
  return loaded.policy;
}

/** The problems of a text with faults. */
export async function problemsOf(
  text: string,
  others: Readonly<Record<string, string | Uint8Array>> = {},
): Promise<readonly PolicyProblem[]> {
  const loaded = await load(text, others);
  assert.equal(loaded.kind, 'rejected', 'the text was taken');
  assert.ok(loaded.problems.length > 0);
  return loaded.problems;
}

/** The two lines that every document needs. */
export const denyAll = 'version: 1\ndefaultAction: deny\n';
export const allowAll = 'version: 1\ndefaultAction: allow\n';

export const digestA = 'a'.repeat(64);
export const digestB = 'b'.repeat(64);
