/** What the kernel says about a process, read from `/proc`. Source: proc(5); prometheus/client_golang `process_collector_linux.go`. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Each field is undefined where the kernel does not tell it. */
export interface ProcessFacts {
  readonly cpuSeconds: number | undefined;
  /** Soft limit; infinity is 2^64 as the stock agent writes it. */
  readonly maxFileCount: number | undefined;
  readonly openFileCount: number | undefined;
  readonly residentBytes: number | undefined;
  readonly virtualBytes: number | undefined;
  readonly maxVirtualBytes: number | undefined;
  /** Of the whole network namespace: the pod. */
  readonly receivedBytes: number | undefined;
  readonly sentBytes: number | undefined;
}

/** The kernel's clock tick for user space; a constant of the Linux ABI. */
const ticksPerSecond = 100;

/** What Go prints for no limit: the largest 64-bit number as a double. */
const unlimited = 2 ** 64;

/** Reads the facts of the process itself. Where there is no `/proc` (not Linux) all fields are undefined. */
export async function readProcessFacts(procFolder: string): Promise<ProcessFacts> {
  const self = join(procFolder, 'self');
  const [stat, status, limits, netstat, files] = await Promise.all([
    readIfPresent(join(self, 'stat')),
    readIfPresent(join(self, 'status')),
    readIfPresent(join(self, 'limits')),
    readIfPresent(join(self, 'net/netstat')),
    listIfPresent(join(self, 'fd')),
  ]);
  const { receivedBytes, sentBytes } = parseNetstat(netstat);
  return {
    cpuSeconds: parseStat(stat).cpuSeconds,
    maxFileCount: parseLimit(limits, 'Max open files'),
    // The folder's own handle is open while it is listed.
    openFileCount: files === undefined ? undefined : Math.max(0, files.length - 1),
    residentBytes: kibibytes(matchNumber(status, /^VmRSS:\s+(\d+) kB$/m)),
    virtualBytes: kibibytes(matchNumber(status, /^VmSize:\s+(\d+) kB$/m)),
    maxVirtualBytes: parseLimit(limits, 'Max address space'),
    receivedBytes,
    sentBytes,
  };
}

/**
 * When the process started, in epoch seconds; undefined where the kernel does not tell it. It never changes, and the
 * file it needs is long on a machine with many cores: read it once.
 */
export async function readStartTimeSeconds(procFolder: string): Promise<number | undefined> {
  const [stat, bootStat] = await Promise.all([
    readIfPresent(join(procFolder, 'self/stat')),
    readIfPresent(join(procFolder, 'stat')),
  ]);
  const bootTimeSeconds = matchNumber(bootStat, /^btime (\d+)$/m);
  const { startSinceBootSeconds } = parseStat(stat);
  return bootTimeSeconds === undefined || startSinceBootSeconds === undefined
    ? undefined
    : bootTimeSeconds + startSinceBootSeconds;
}

/** Fields are counted from the last `)`: the command's name in front of it may hold blanks and brackets. */
function parseStat(text: string): {
  cpuSeconds: number | undefined;
  startSinceBootSeconds: number | undefined;
} {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  // Numbers of proc(5) less 3: utime is field 14, stime 15, starttime 22.
  const [userTicks, systemTicks, startTicks] = [fields[11], fields[12], fields[19]].map(wholeNumber);
  return {
    cpuSeconds:
      userTicks === undefined || systemTicks === undefined
        ? undefined
        : (userTicks + systemTicks) / ticksPerSecond,
    startSinceBootSeconds: startTicks === undefined ? undefined : startTicks / ticksPerSecond,
  };
}

function parseLimit(text: string, name: string): number | undefined {
  const line = text.split('\n').find((candidate) => candidate.startsWith(name));
  const soft = line?.slice(name.length).trim().split(/\s+/)[0];
  return soft === 'unlimited' ? unlimited : wholeNumber(soft);
}

/** Two lines for each protocol: names, then values in the same order. */
function parseNetstat(text: string): {
  receivedBytes: number | undefined;
  sentBytes: number | undefined;
} {
  const [names = [], values = []] = text
    .split('\n')
    .filter((line) => line.startsWith('IpExt:'))
    .map((line) => line.split(' '));
  return {
    receivedBytes: wholeNumber(values[names.indexOf('InOctets')]),
    sentBytes: wholeNumber(values[names.indexOf('OutOctets')]),
  };
}

function matchNumber(text: string, pattern: RegExp): number | undefined {
  return wholeNumber(pattern.exec(text)?.[1]);
}

function wholeNumber(text: string | undefined): number | undefined {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
}

function kibibytes(count: number | undefined): number | undefined {
  return count === undefined ? undefined : count * 1024;
}

async function readIfPresent(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (isUnreadable(error)) return '';
    throw error;
  }
}

async function listIfPresent(path: string): Promise<readonly string[] | undefined> {
  try {
    return await readdir(path);
  } catch (error) {
    if (isUnreadable(error)) return undefined;
    throw error;
  }
}

/** Not Linux, or a hardened `/proc`: the metric is absent. Anything else (EMFILE, EIO) is a failure to report. */
function isUnreadable(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code;
  return code === 'ENOENT' || code === 'EACCES' || code === 'EPERM' || code === 'ENOTDIR';
}
