import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { errnoOf } from './storage-failure.ts';

/**
 * Names temporary files so that a later process knows whether their writer still runs. A pid alone does not tell: in
 * a container a restarted agent gets the pid of the dead one. Hence pid and start time, the pair that is unique while
 * the machine is up (proc(5), `/proc/<pid>/stat` field 22, clock ticks since boot).
 */
interface ProcessMark {
  readonly pid: number;
  /** Text of the tick count; `0` where there is no /proc. */
  readonly startTicks: string;
}

/** Of this process: asked of the kernel once. */
let ownStartTicks: Promise<string | undefined> | undefined;

const temporaryName = /^(\d{1,10})-(\d{1,20})-[0-9a-f]{16}\.part$/;

/** A fresh name for a temporary file of this process: `<pid>-<start>-<random>.part`. */
export async function temporaryFileName(): Promise<string> {
  ownStartTicks ??= startTicksOf(process.pid);
  const startTicks = (await ownStartTicks) ?? '0';
  return `${process.pid}-${startTicks}-${randomBytes(8).toString('hex')}.part`;
}

/** Whether `name` was given by `temporaryFileName` in a process that is gone. False for every other name. */
export async function isLeftByDeadProcess(name: string): Promise<boolean> {
  const mark = parseMark(name);
  return mark !== undefined && !(await isRunning(mark));
}

function parseMark(name: string): ProcessMark | undefined {
  const [, pid, startTicks] = temporaryName.exec(name) ?? [];
  if (pid === undefined || startTicks === undefined) return undefined;
  return { pid: Number(pid), startTicks };
}

async function isRunning(mark: ProcessMark): Promise<boolean> {
  if (mark.startTicks !== '0') return (await startTicksOf(mark.pid)) === mark.startTicks;
  try {
    process.kill(mark.pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) === 'EPERM';
  }
}

async function startTicksOf(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'latin1');
    // The second field is the command in parentheses and may hold spaces and parentheses itself.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}
