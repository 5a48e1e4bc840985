/**
 * Draws docs/benchmarks.svg from a run of the bench.
 *
 *   npm run bench:plot -- test/bench/results/<run>.json    keeps that run as docs/benchmarks.json and draws it
 *   npm run bench:plot                                     draws docs/benchmarks.json again
 */
import { readFile, writeFile } from 'node:fs/promises';
import { basename, isAbsolute } from 'node:path';
import { fileURLToPath } from 'node:url';
import { renderPlot } from './bench-plot.ts';
import { type BenchDocument, writeBenchDocument } from './bench-result.ts';

const keptPath = fileURLToPath(new URL('../../docs/benchmarks.json', import.meta.url));
const plotPath = fileURLToPath(new URL('../../docs/benchmarks.svg', import.meta.url));
const usageExitCode = 2;

async function main(givenPath: string | undefined): Promise<void> {
  const path = givenPath ?? keptPath;
  const document = await readRun(path);
  if (document === undefined) {
    console.error(`${path} is no run of the bench: give a file of test/bench/results/.`);
    process.exitCode = usageExitCode;
    return;
  }
  await writeFile(plotPath, renderPlot(document));
  if (path !== keptPath) await writeBenchDocument(keptPath, withoutFolders(document));
  process.stdout.write(`${plotPath}\n`);
}

/** Where programs and files lie says something of the machine and nothing of the run: their names are kept. */
function withoutFolders(document: BenchDocument): BenchDocument {
  const short = <Value>(value: Value): Value | string =>
    typeof value === 'string' && isAbsolute(value) ? basename(value) : value;
  return {
    ...document,
    settings: Object.fromEntries(
      Object.entries(document.settings).map(([name, value]) => [name, short(value)]),
    ),
    subjects: document.subjects.map(({ name, command }) => ({
      name,
      command: command?.map((word) => short(word)) ?? null,
    })),
  };
}

async function readRun(path: string): Promise<BenchDocument | undefined> {
  try {
    const document = JSON.parse(await readFile(path, 'utf8')) as Partial<BenchDocument>;
    const isRun = document.kind === 'ferry-bench' && document.schemaVersion === 1;
    return isRun ? (document as BenchDocument) : undefined;
  } catch {
    return undefined;
  }
}

await main(process.argv[2]);
