/**
 * The lists of flags and variables of the stock agent, held against our tables. They are read from the page that
 * records them, where that page is at hand.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  environmentPrefixes,
  environmentTable,
  type VariableDefinition,
} from '../../../agent/config/environment-table.ts';
import {
  type FlagDefinition,
  proxyFlags,
  requestFlags,
  rootFlags,
  versionFlags,
  waitFlags,
} from '../../../agent/config/flags.ts';

const page = fileURLToPath(new URL('../../../../shared/contract/cli-and-config.md', import.meta.url));
const skip = existsSync(page) ? false : 'the page of the stock command line is not here';
const sources = fileURLToPath(new URL('../../../agent', import.meta.url));

/** The text of the section that starts with this heading, to the next heading. */
function section(heading: string): string {
  const text = readFileSync(page, 'utf8');
  const start = text.indexOf(heading);
  assert.ok(start >= 0, `there is no heading ${heading}`);
  const rest = text.slice(start + heading.length);
  return rest.slice(0, rest.search(/\n#{2,3} /));
}

/** Rows of the tables in a text, cell by cell, without their heads. An escaped bar does not end a cell. */
function rows(text: string): readonly (readonly string[])[] {
  return text
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) =>
      line
        .split(/(?<!\\)\|/)
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

function codes(cell: string | undefined): readonly string[] {
  return [...(cell ?? '').matchAll(/`([^`]*)`/g)].map((match) => match[1] ?? '');
}

describe('the flags of the stock agent', { skip }, () => {
  const groups: readonly (readonly [string, readonly FlagDefinition[]])[] = [
    ['### 2.1 ', proxyFlags],
    ['### 2.2 ', rootFlags],
    ['### 2.3 ', waitFlags],
    ['### 2.4 ', requestFlags],
  ];
  for (const [heading, flags] of groups) {
    test(`of section ${heading.slice(4).trim()} are ours, with their defaults`, () => {
      const known = rows(section(heading));
      assert.ok(known.length > 0);
      for (const [nameCell, defaultCell] of known) {
        const name = (codes(nameCell)[0] ?? '').replace(/^--/, '');
        const flag = flags.find((candidate) => candidate.name === name);
        assert.ok(flag !== undefined, `--${name} is missing`);
        const stated = (codes(defaultCell)[0] ?? '').replace(/^""$/, '');
        assert.equal(flag.default, stated, `default of --${name}`);
      }
      assert.equal(flags.length, known.length, 'flags of ours that stock has not');
    });
  }

  test('of version are ours', () => {
    const text = section('### 2.5 ');
    for (const { name, short } of versionFlags) assert.ok(text.includes(`-${short}/--${name}`), name);
  });
});

describe('the variables of the stock agent', { skip }, () => {
  const listed = existsSync(page) ? section('## 7. Environment variables') : '';
  const known = rows(listed).flatMap(([nameCell, defaultCell]) => {
    const names = codes(nameCell).filter((name) => /^[A-Z][A-Z0-9_]+$/.test(name));
    const defaults = codes(defaultCell);
    return names.map(
      (name, index) => [name, names.length === defaults.length ? defaults[index] : defaults[0]] as const,
    );
  });
  const table: Readonly<Record<string, VariableDefinition>> = environmentTable;

  test('are read by the table, a prefix, or the part that owns them', () => {
    assert.ok(known.length >= 80, `only ${known.length} were found`);
    const text = readdirSync(sources, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => readFileSync(join(sources, name), 'utf8'))
      .join('\n');
    const missing = known
      .map(([name]) => name)
      .filter((name) => !Object.hasOwn(table, name))
      .filter((name) => !environmentPrefixes.some(({ prefix }) => name.startsWith(prefix)))
      .filter((name) => !new RegExp(String.raw`\b${name}\b`).test(text));
    assert.deepEqual(missing, []);
  });

  test('have the stock defaults in the table', () => {
    for (const [name, stated] of known) {
      const definition = table[name];
      if (definition?.default === undefined || stated === undefined) continue;
      assert.equal(definition.default, stated.replace(/^""$/, ''), name);
    }
  });
});
