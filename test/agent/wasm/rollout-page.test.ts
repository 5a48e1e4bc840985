import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { formatArrows, formatTable, mapRollout } from './rollout-map.ts';

const page = readFileSync(fileURLToPath(new URL('../../../docs/rollout.md', import.meta.url)), 'utf8');

const rows = mapRollout();

/** The lines of the page between a heading and the next one. */
function section(title: string): readonly string[] {
  const [, text = ''] = page.split(`\n## ${title}\n`);
  assert.notEqual(text, '', `docs/rollout.md has no section ${title}`);
  return (text.split('\n## ', 1)[0] ?? '').split('\n');
}

/** First cells of the rows of a table. */
function namesIn(title: string): readonly string[] {
  return section(title).flatMap((line) => /^\| `([a-z-]+)` \|/.exec(line)?.[1] ?? []);
}

test('docs/rollout.md explains every state, event and effect of the machine, and no other', () => {
  const distinct = (names: readonly string[]): readonly string[] => [...new Set(names)].sort();
  assert.deepEqual(namesIn('States').toSorted(), distinct(rows.flatMap(({ from, to }) => [from, to])));
  assert.deepEqual(namesIn('Events').toSorted(), distinct(rows.map(({ event }) => event)));
  const effects = rows.flatMap((row) => row.effects.map((effect) => effect.replace('?', '')));
  assert.deepEqual(namesIn('What is done').toSorted(), distinct(effects));
});

test('the table of docs/rollout.md is what the machine does', () => {
  const lines = section('Transitions').filter(
    (line) => /^\| [a-z]/.test(line) && !line.startsWith('| event '),
  );
  assert.deepEqual(lines, formatTable(rows));
});

test('the diagram of docs/rollout.md has every way from state to state, and no other', () => {
  const arrows = section('Diagram').flatMap((line) => (line.includes('-->') ? [line.trim()] : []));
  const own = arrows.filter((arrow) => !arrow.startsWith('[*]'));
  assert.deepEqual(own.toSorted(), formatArrows(rows));
});
