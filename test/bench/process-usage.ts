/** What the kernel says about the process under test. Source: proc(5). Linux only. */
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';

/** Memory at one moment, in MiB (2^20 bytes). */
export interface MemoryUsage {
  /** Pages in memory, shared ones counted in full. */
  readonly rssMib: number;
  /** Shared pages divided by the number of processes that map them. */
  readonly pssMib: number;
  /** Pages that no file backs: heap and stacks. */
  readonly anonymousMib: number;
}

/** USER_HZ, the unit of times in /proc: 100 on every architecture Node runs on. */
export const ticksPerSecond = 100;
const kibInMib = 1024;

/** User and system CPU time of all threads since the process began, in seconds, to 10 ms. */
export function cpuSeconds(pid: number): number {
  const { userTicks, systemTicks } = readTicks(pid);
  return (userTicks + systemTicks) / ticksPerSecond;
}

/** The same with all children that have ended and their ended children. */
export function cpuSecondsWithChildren(pid: number): number {
  const { userTicks, systemTicks, childUserTicks, childSystemTicks } = readTicks(pid);
  return (userTicks + systemTicks + childUserTicks + childSystemTicks) / ticksPerSecond;
}

/** Fields 14 to 17 of /proc/<pid>/stat. */
function readTicks(pid: number) {
  const [userTicks = 0, systemTicks = 0, childUserTicks = 0, childSystemTicks = 0] = statFields(pid)
    .slice(11, 15)
    .map(Number);
  return { userTicks, systemTicks, childUserTicks, childSystemTicks };
}

/** From the third field on: the second, in parentheses, may hold spaces. */
function statFields(pid: number): readonly string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}

/** The largest RSS since the process began, or since `resetPeakRss`. */
export function peakRssMib(pid: number): number {
  return kibField(readFileSync(`/proc/${pid}/status`, 'latin1'), 'VmHWM') / kibInMib;
}

/** Lets the peak begin anew at the present RSS. */
export function resetPeakRss(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
}

/** RSS at this moment. */
export function rssMib(pid: number): number {
  return kibField(readFileSync(`/proc/${pid}/status`, 'latin1'), 'VmRSS') / kibInMib;
}

/** Exact, not the kernel's running estimate; walks all mappings, so not for use inside a measurement. */
export function memoryUsage(pid: number): MemoryUsage {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1');
  return {
    rssMib: kibField(rollup, 'Rss') / kibInMib,
    pssMib: kibField(rollup, 'Pss') / kibInMib,
    anonymousMib: kibField(rollup, 'Anonymous') / kibInMib,
  };
}

/**
 * The process that listens on a Unix socket: `rootPid` or one of its descendants. The command a user gives may be a
 * wrapper, and its usage is not what is wanted. Throws Error when none of them listens there.
 */
export function listenerOf(rootPid: number, socketName: string): number {
  const inodes = new Set(
    readFileSync(`/proc/${rootPid}/net/unix`, 'latin1')
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      // Num RefCount Protocol Flags Type St Inode Path; flag 0x10000 is a listening socket.
      .filter(([, , , flags, , , , path]) => flags === '00010000' && path?.endsWith(`/${socketName}`))
      .map(([, , , , , , inode]) => `socket:[${inode}]`),
  );
  const pids = [rootPid, ...descendantsOf(rootPid)];
  const listener = pids.find((pid) => openFiles(pid).some((file) => inodes.has(file)));
  if (listener === undefined) {
    throw new Error(`None of the processes ${pids.join(', ')} listens on a socket named ${socketName}.`);
  }
  return listener;
}

function descendantsOf(rootPid: number): readonly number[] {
  const childrenOf = new Map<number, number[]>();
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const parent = parentOf(Number(entry));
    if (parent !== undefined) childrenOf.set(parent, [...(childrenOf.get(parent) ?? []), Number(entry)]);
  }
  const found: number[] = [];
  const queue = [rootPid];
  for (let pid = queue.shift(); pid !== undefined; pid = queue.shift()) {
    const children = childrenOf.get(pid) ?? [];
    found.push(...children);
    queue.push(...children);
  }
  return found;
}

/** Undefined when the process has ended meanwhile. */
function parentOf(pid: number): number | undefined {
  try {
    return Number(statFields(pid)[1]);
  } catch {
    return undefined;
  }
}

/** Targets of the open file descriptors; files closed meanwhile are left out. */
function openFiles(pid: number): readonly string[] {
  const folder = `/proc/${pid}/fd`;
  return readdirSync(folder).flatMap((entry) => {
    try {
      return [readlinkSync(`${folder}/${entry}`)];
    } catch {
      return [];
    }
  });
}

function kibField(text: string, name: string): number {
  const value = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1];
  if (value === undefined) throw new Error(`This kernel tells no ${name} of a process.`);
  return Number(value);
}
