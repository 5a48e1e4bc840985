/** What a header block of a tar archive says (POSIX.1-1988 ustar, old V7 and GNU tar). */
export interface TarHeader {
  readonly name: string;
  /** `typeflag`, as one character. */
  readonly flag: string;
  readonly sizeBytes: number;
}

export const tarBlockBytes = 512;

const checksumStart = 148;
const checksumEnd = 156;
const magicOffset = 257;

/** Reads a header block; undefined when its checksum is wrong or a number in it is none. Pure. */
export function parseTarHeader(block: Uint8Array): TarHeader | undefined {
  if (!hasTarChecksum(block)) return undefined;
  const sizeBytes = readNumber(block.subarray(124, 136));
  if (sizeBytes === undefined) return undefined;
  const name = readText(block.subarray(0, 100));
  const magic = readText(block.subarray(magicOffset, magicOffset + 6));
  // GNU's own format ("ustar  ") has other things in the place of the prefix.
  const prefix = magic === 'ustar' ? readText(block.subarray(345, 500)) : '';
  return {
    name: prefix === '' ? name : `${prefix}/${name}`,
    flag: String.fromCodePoint(block[156] ?? 0),
    sizeBytes,
  };
}

/** True when the block has the checksum of a tar header: the only mark that V7 archives have. Pure. */
export function hasTarChecksum(block: Uint8Array): boolean {
  if (block.byteLength < tarBlockBytes) return false;
  const expected = readNumber(block.subarray(checksumStart, checksumEnd));
  if (expected === undefined) return false;
  let sum = 0;
  for (let index = 0; index < tarBlockBytes; index += 1) {
    const isChecksum = index >= checksumStart && index < checksumEnd;
    sum += isChecksum ? 0x20 : (block[index] ?? 0);
  }
  return sum === expected && sum !== zeroBlockSum;
}

/** An empty block sums up to its eight spaces: it is no header. */
const zeroBlockSum = (checksumEnd - checksumStart) * 0x20;

export function isZeroBlock(block: Uint8Array): boolean {
  return block.every((byte) => byte === 0);
}

/** Octal text, or GNU's base-256 where the first bit is set. An empty field is 0. */
function readNumber(field: Uint8Array): number | undefined {
  const first = field[0] ?? 0;
  if (first >= 0x80) {
    // 0xff is a negative number: nothing in a tar header is.
    if (first !== 0x80) return undefined;
    const value = field.subarray(1).reduce((total, byte) => total * 256 + byte, 0);
    return Number.isSafeInteger(value) ? value : undefined;
  }
  const text = readText(field).trim();
  if (text === '') return 0;
  return /^[0-7]+$/.test(text) ? Number.parseInt(text, 8) : undefined;
}

function readText(field: Uint8Array): string {
  const end = field.indexOf(0);
  return Buffer.from(field.buffer, field.byteOffset, end === -1 ? field.byteLength : end).toString('utf8');
}

/**
 * The records of a PAX extended header, `<length> <key>=<value>\n` each (POSIX.1-2001, pax); undefined when they are
 * malformed. The last of several with one key wins. Pure.
 */
export function parsePaxRecords(bytes: Uint8Array): ReadonlyMap<string, string> | undefined {
  const records = new Map<string, string>();
  const data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let position = 0;
  while (position < data.byteLength) {
    const space = data.indexOf(0x20, position);
    const digits = space === -1 ? '' : data.toString('latin1', position, space);
    const length = /^[1-9]\d{0,8}$/.test(digits) ? Number(digits) : 0;
    const end = position + length;
    const equals = data.indexOf(0x3d, space);
    if (length === 0 || end > data.byteLength || data[end - 1] !== 0x0a || equals === -1 || equals >= end) {
      return undefined;
    }
    records.set(data.toString('utf8', space + 1, equals), data.toString('utf8', equals + 1, end - 1));
    position = end;
  }
  return records;
}
