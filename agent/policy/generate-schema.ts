/** Writes deploy/policy.schema.json from the schema that reads policy files; with `--check` fails when it is out of date. */
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { toJSONSchema } from 'zod/mini';
import { policySchema } from './policy-schema.ts';

const name = 'deploy/policy.schema.json';
const page = fileURLToPath(new URL(`../../${name}`, import.meta.url));

/** Width of the repository's formatter. */
const lineWidth = 110;

/** JSON as the repository's formatter writes it: maps on lines of their own, lists on one where they fit. */
function format(value: unknown, indent: string, before: string): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const inner = `${indent}  `;
  if (Array.isArray(value)) {
    const line = `[${value.map((item: unknown) => format(item, inner, '')).join(', ')}]`;
    const isShort = !line.includes('\n') && before.length + line.length < lineWidth;
    if (isShort) return line;
    return `[\n${value.map((item: unknown) => `${inner}${format(item, inner, inner)}`).join(',\n')}\n${indent}]`;
  }
  const entries = Object.entries(value).map(([key, item]) => {
    const start = `${inner}${JSON.stringify(key)}: `;
    return `${start}${format(item, inner, start)}`;
  });
  return entries.length === 0 ? '{}' : `{\n${entries.join(',\n')}\n${indent}}`;
}

const schema = { title: 'Wasm policy of Ferry', ...toJSONSchema(policySchema, { io: 'input' }) };
const rendered = `${format(schema, '', '')}\n`;
if (process.argv.includes('--check')) {
  const present = await readFile(page, 'utf8').catch(() => '');
  if (present !== rendered) {
    process.stderr.write(`${name} is out of date: run npm run generate\n`);
    process.exitCode = 1;
  }
} else {
  await writeFile(page, rendered);
}
