import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

const stacks = new WeakMap<TestContext, AsyncDisposableStack>();

/** Runs when the test ends, last registered first, so that whoever uses something ends before it. */
export function atEnd(t: TestContext, work: () => unknown): void {
  let stack = stacks.get(t);
  if (stack === undefined) {
    const made = new AsyncDisposableStack();
    t.after(async () => made.disposeAsync());
    stacks.set(t, made);
    stack = made;
  }
  stack.defer(async () => {
    await work();
  });
}

/** A folder that is removed when the test ends. */
export async function temporaryFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'ferry-test-'));
  atEnd(t, async () => rm(folder, { recursive: true, force: true }));
  return folder;
}
