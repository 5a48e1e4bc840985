import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { contentFormat, formatHeadBytes } from '../../fetch/content-format.ts';
import { decodeSection } from './module-sections.ts';
import type { ModuleSummary } from './module-summary.ts';
import { ModuleTables } from './module-tables.ts';
import { checkNameSection } from './name-section.ts';
import { ModuleReadFailure, type ReadFailureCode } from './read-failure.ts';
import { type ByteSource, fileSource, readFully, SectionReader } from './section-reader.ts';

/** What a module says of itself, or why its bytes could not be read. `offset` counts from the start of the file. */
export type ModuleReading =
  | { readonly kind: 'module'; readonly summary: ModuleSummary }
  | {
      readonly kind: 'failed';
      readonly code: ReadFailureCode;
      readonly offset: number;
      readonly message: string;
    };

const magic = [0x00, 0x61, 0x73, 0x6d] as const;
const headerBytes = 8;

/** Above what any toolchain writes; debug sections included, real modules have a few dozen. */
const maxSectionCount = 10_000;

const customSectionId = 0;

/**
 * The sections in the order V8 wants them, with names for messages. Source: WebAssembly core specification 3.0, 5.5.2
 * and 5.5.17; V8 refuses any other order, and any section twice.
 */
const sectionOrder = new Map<number, { readonly rank: number; readonly name: string }>(
  (
    [
      [1, 'type'],
      [2, 'import'],
      [3, 'function'],
      [4, 'table'],
      [5, 'memory'],
      [13, 'tag'],
      [6, 'global'],
      [7, 'export'],
      [8, 'start'],
      [9, 'element'],
      [12, 'data count'],
      [10, 'code'],
      [11, 'data'],
    ] as const
  ).map(([id, name], rank) => [id, { rank, name }] as const),
);

/**
 * Reads a module file section by section. Code and data are passed over by their sizes, so the cost does not grow with
 * them; memory stays within a window of at most 1 MiB and the tables of imports, exports and types. Rejects with the
 * system's error when the file cannot be read, a TypeError when it is no regular file, and with the signal's reason.
 */
export async function readModuleFile(
  path: string,
  options: { readonly signal: AbortSignal },
): Promise<ModuleReading> {
  options.signal.throwIfAborted();
  // A pipe in place of a file must not hold up anybody.
  await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const stats = await file.stat();
  if (!stats.isFile()) throw new TypeError('it is not a regular file');
  return await readModule(fileSource(file, stats.size, options.signal));
}

/** Reads a module from any bytes. Bytes that make no sense are an answer; only the source's own errors reject. */
export async function readModule(source: ByteSource): Promise<ModuleReading> {
  try {
    await checkHeader(source);
    return { kind: 'module', summary: await walkSections(source) };
  } catch (error) {
    if (!(error instanceof ModuleReadFailure)) throw error;
    return { kind: 'failed', code: error.code, offset: error.offset, message: error.message };
  }
}

async function checkHeader(source: ByteSource): Promise<void> {
  const head = new Uint8Array(Math.min(formatHeadBytes, source.sizeBytes));
  const readBytes = await readFully(source, head, 0);
  const seen = head.subarray(0, readBytes);
  if (readBytes < magic.length || magic.some((byte, i) => seen[i] !== byte)) {
    throw new ModuleReadFailure('not_wasm', 0, `it is ${describeFormat(seen)}`);
  }
  if (readBytes < headerBytes) {
    throw new ModuleReadFailure('malformed', readBytes, 'it ends inside the 8 bytes of the header');
  }
  const version = [...seen.subarray(4, headerBytes)];
  if (version[2] === 1 && version[3] === 0) {
    throw new ModuleReadFailure('component', 4, 'its header says component, not core module');
  }
  if (version[0] !== 1 || version.slice(1).some((byte) => byte !== 0)) {
    const text = version.map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
    throw new ModuleReadFailure('unknown_version', 4, `its version is ${text}, not 01 00 00 00`);
  }
}

function describeFormat(head: Uint8Array): string {
  const format = contentFormat(head);
  return 'description' in format ? format.description : `a ${format.kind} file`;
}

async function walkSections(source: ByteSource): Promise<ModuleSummary> {
  const walker = new SectionReader(source, { start: headerBytes, end: source.sizeBytes, what: 'module' });
  const tables = new ModuleTables(source);
  let lastRank = -1;
  let isNameSectionSeen = false;
  for (let count = 0; walker.remainingBytes > 0; count += 1) {
    const sectionStart = walker.position;
    if (count >= maxSectionCount) {
      throw new ModuleReadFailure('too_complex', sectionStart, `it has over ${maxSectionCount} sections`);
    }
    const { id, start, end, name, contentStart } = await walker.item(decodeSectionHead);
    walker.position = end;
    if (id === customSectionId) {
      if (name === 'name' && !isNameSectionSeen) {
        isNameSectionSeen = true;
        await checkNameSection(new SectionReader(source, { start: contentStart, end, what: 'name section' }));
      }
      continue;
    }
    const section = sectionOrder.get(id);
    if (section === undefined) {
      throw new ModuleReadFailure('unknown_encoding', sectionStart, `section ${id} is not known`);
    }
    if (section.rank <= lastRank) {
      const what = `the ${section.name} section stands twice or after a section that must follow it`;
      throw new ModuleReadFailure('malformed', sectionStart, what);
    }
    lastRank = section.rank;
    const reader = new SectionReader(source, { start, end, what: `${section.name} section` });
    await decodeSection(id, reader, tables);
  }
  return await tables.summary();
}

/** Where a section lies. The name is that of a custom section; its contents start after it. */
interface SectionHead {
  readonly id: number;
  readonly start: number;
  readonly contentStart: number;
  readonly end: number;
  readonly name: string | undefined;
}

function decodeSectionHead(reader: SectionReader): SectionHead {
  const id = reader.u8();
  const sizeBytes = reader.u32();
  const start = reader.position;
  if (sizeBytes > reader.remainingBytes) {
    reader.fail(
      start,
      `section ${id} has ${sizeBytes} bytes, but the file ends after ${reader.remainingBytes}`,
    );
  }
  const end = start + sizeBytes;
  const name = id === customSectionId ? reader.name() : undefined;
  if (reader.position > end) reader.fail(start, 'the name of a custom section does not fit into it');
  return { id, start, contentStart: reader.position, end, name };
}
