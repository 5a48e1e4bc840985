/**
 * Prints which parts' code V8 takes in this process, with its flags at the start or with those that the agent sets
 * later: node test/deploy/kept-code.ts <folder of a bundle>
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Script } from 'node:vm';
import { turnOffTopTiers } from '../../agent/compiler.ts';
import { KeptCode } from '../../agent/start/code-cache-file.ts';
import { commentEnd, hiddenCommentEnd, type PartTable } from '../../agent/start/part-loader.ts';

const folder = process.argv[2] ?? '';
const bundle = readFileSync(join(folder, 'ferry-agent.cjs'), 'latin1');
const head = readFileSync(join(folder, 'start.cjs'), 'latin1');
const [, start = '', tableText = ''] = /"start":Number\("(\d+)"\)(.*)\);$/m.exec(head) ?? [];
const [bundleId = ''] = /(?<="bundleId":")\w+/.exec(head) ?? [];
const { parts } = JSON.parse(`{"bundleId":""${tableText}`) as PartTable;
const kept = KeptCode.open(join(folder, 'ferry-agent.cache'), bundleId);
const codes = new Map((kept?.names ?? []).map((name) => [name, kept?.take(name)]));

/** Those of the codes that are left which V8 takes now. Each time under another file name: V8 remembers what it compiled. */
function takeNow(when: string): readonly string[] {
  return [...codes].flatMap(([name, cachedData]) => {
    if (cachedData === undefined) return [];
    const [offset, sizeBytes] = parts[name] ?? [0, 0];
    const at = Number(start) + offset;
    const text = bundle.slice(at, at + sizeBytes).replaceAll(hiddenCommentEnd, commentEnd);
    const script = new Script(text, { cachedData, filename: `${when} ${name}` });
    if (script.cachedDataRejected !== false) return [];
    codes.delete(name);
    return [name];
  });
}

const atStart = takeNow('start');
turnOffTopTiers();
const later = takeNow('later');
console.log(JSON.stringify({ atStart, later, refused: [...codes.keys()] }));
