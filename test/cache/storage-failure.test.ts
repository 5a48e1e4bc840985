import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isDiskFull, storageFailure } from '../../cache/storage-failure.ts';
import { CacheError, type CacheErrorCode } from '../../cache/types.ts';

const judgements: readonly {
  readonly errno: string;
  readonly code: CacheErrorCode;
  readonly advice: RegExp;
}[] = [
  { errno: 'ENOSPC', code: 'no_space', advice: /free space or give it a larger one/ },
  { errno: 'EDQUOT', code: 'no_space', advice: /raise the quota/ },
  { errno: 'EFBIG', code: 'no_space', advice: /ulimit -f/ },
  { errno: 'EROFS', code: 'read_only', advice: /mount a writable volume/ },
  { errno: 'EACCES', code: 'read_only', advice: /owner and mode/ },
  { errno: 'EPERM', code: 'read_only', advice: /owner and mode/ },
  { errno: 'EISDIR', code: 'io', advice: /remove it/ },
  { errno: 'EMFILE', code: 'io', advice: /ulimit -n/ },
  { errno: 'EIO', code: 'io', advice: /check the volume/ },
];

describe('a failed file operation', () => {
  for (const { errno, code, advice } of judgements) {
    test(`${errno} is ${code} and says what was tried, where, what was seen and what to do`, () => {
      const cause = Object.assign(new Error('as the system says'), { code: errno });
      const error = storageFailure(cause, 'write', '/cache/file');
      assert.equal(error.code, code);
      assert.ok(error.message.startsWith(`cannot write /cache/file: ${errno}; `), error.message);
      assert.match(error.message, advice);
      assert.equal(error.cause, cause);
    });
  }

  test('that is no system error keeps its text', () => {
    assert.match(storageFailure(new Error('odd'), 'read', '/x').message, /cannot read \/x: odd; check/);
    assert.match(storageFailure('text', 'read', '/x').message, /cannot read \/x: text; check/);
  });

  test('that is told already is not told twice', () => {
    const error = new CacheError('too_large', 'told');
    assert.equal(storageFailure(error, 'write', '/x'), error);
  });

  test('is a full disk only when deleting helps', () => {
    const full = ['ENOSPC', 'EDQUOT', 'EFBIG', 'EROFS', 'EIO'].filter((code) =>
      isDiskFull(Object.assign(new Error(code), { code })),
    );
    assert.deepEqual(full, ['ENOSPC', 'EDQUOT']);
  });
});
