import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { createWorkspace, type Workspace } from '../../support/workspace.ts';
import { runCommand } from './command-process.ts';

type Shell = 'bash' | 'zsh' | 'fish';

/** Runs a program text of the shell and returns what it printed, as words in order of the alphabet. */
function wordsOf(shell: Shell, args: readonly string[]): readonly string[] {
  const { status, stdout, stderr } = spawnSync(shell, [...args], { encoding: 'utf8', timeout: 20_000 });
  assert.equal(status, 0, stderr);
  return stdout.split(/\s+/).filter(Boolean).sort();
}

/** What the shell offers behind these words, the last of which may be half typed. */
const offers: Readonly<Record<Shell, (script: string, words: readonly string[]) => readonly string[]>> = {
  bash: (script, words) => {
    const call =
      'source "$1"; shift; COMP_WORDS=(pilot-agent "$@"); COMP_CWORD=$#; ' +
      `$(complete -p pilot-agent | sed 's/.*-F \\([^ ]*\\).*/\\1/'); printf '%s\\n' "\${COMPREPLY[@]}"`;
    return wordsOf('bash', ['--norc', '-c', call, 'bash', script, ...words]);
  },
  zsh: (script, words) => {
    // Stands in for the widget: outside a line editor the builtin behind _describe is not there.
    const call =
      'compdef() { }; _files() { }; ' +
      '_describe() { local -a all; [[ $1 == -o ]] && shift; all=("${(@P)2}"); for w in $all; do w="${w%%:*}"; [[ $w == ${words[CURRENT]}* ]] && print -r -- $w; done; return 0 }; ' +
      'source $1; shift; words=(pilot-agent "$@"); CURRENT=$#words; __ferry_agent_complete';
    return wordsOf('zsh', ['-f', '-c', call, 'zsh', script, ...words]);
  },
  fish: (script, words) => {
    const typed = ['pilot-agent', ...words].join(' ');
    return wordsOf('fish', [
      '--no-config',
      '-c',
      `source ${script}; complete -C '${typed}' | string split -f 1 \\t; or true`,
    ]);
  },
};

async function writeScript(workspace: Workspace, shell: Shell): Promise<string> {
  const { code, stdout, stderr } = await runCommand(['completion', shell]);
  assert.equal(code, 0, stderr);
  return workspace.write(`completion.${shell}`, stdout);
}

for (const shell of ['bash', 'zsh', 'fish'] as const) {
  const isThere = spawnSync(shell, ['--version']).error === undefined;
  describe(`completion in ${shell}`, { skip: isThere ? false : `there is no ${shell} here` }, () => {
    test('offers commands, nested commands, known values and flags', async () => {
      await using workspace = await createWorkspace();
      const script = await writeScript(workspace, shell);
      const complete = (...words: readonly string[]) => offers[shell](script, words);
      const commands = complete('');
      for (const name of [
        'completion',
        'help',
        'istio-iptables',
        'proxy',
        'request',
        'version',
        'wait',
        'wasm',
      ]) {
        assert.ok(commands.includes(name), `${name} is not in ${commands.join(' ')}`);
      }
      assert.deepEqual(complete('wa'), ['wait', 'wasm']);
      assert.deepEqual(complete('proxy', 'rou'), ['router']);
      assert.ok(complete('wasm', 'st').includes('status'));
      assert.deepEqual(complete('proxy', '--dom'), ['--domain']);
      assert.deepEqual(complete('wasm', 'status', '--js'), ['--json']);
      assert.deepEqual(complete('wait', '--log_as'), ['--log_as_json']);
      assert.deepEqual(complete('version', '--dom'), []);
    });
  });
}

describe('the completion command', () => {
  test('leaves descriptions out when asked to', async () => {
    const full = await runCommand(['completion', 'fish']);
    const short = await runCommand(['completion', 'fish', '--no-descriptions']);
    assert.match(full.stdout, / -d '/);
    assert.doesNotMatch(short.stdout, / -d '/);
  });

  test('refuses a shell it does not know', async () => {
    const { code, stderr } = await runCommand(['completion', 'powershell']);
    assert.equal(code, 255);
    assert.equal(stderr, 'Error: there is no completion for the shell "powershell": use bash, zsh or fish\n');
  });
});
