/** Prints which parts' code V8 takes in this process, with its flags: node test/deploy/kept-code.ts <folder of a bundle> */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Script } from 'node:vm';
import { readCodeCache } from '../../agent/start/code-cache-file.ts';
import { commentEnd, hiddenCommentEnd, type PartTable } from '../../agent/start/part-loader.ts';

const folder = process.argv[2] ?? '';
const bundle = readFileSync(join(folder, 'ferry-agent.cjs'), 'latin1');
const head = readFileSync(join(folder, 'start.cjs'), 'latin1');
const [, start = '', tableText = ''] = /"start":Number\("(\d+)"\)(.*)\);$/m.exec(head) ?? [];
const [bundleId = ''] = /(?<="bundleId":")\w+/.exec(head) ?? [];
const { parts } = JSON.parse(`{"bundleId":""${tableText}`) as PartTable;
const taken: string[] = [];
const refused: string[] = [];
for (const [name, code] of readCodeCache(join(folder, 'ferry-agent.cache'), bundleId)?.codes ?? []) {
  const [offset, sizeBytes] = parts[name] ?? [0, 0];
  const at = Number(start) + offset;
  const text = bundle.slice(at, at + sizeBytes).replaceAll(hiddenCommentEnd, commentEnd);
  const script = new Script(text, { cachedData: Buffer.from(code) });
  (script.cachedDataRejected === false ? taken : refused).push(name);
}
console.log(JSON.stringify({ taken, refused }));
