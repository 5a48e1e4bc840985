import { readdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { memoryUsage } from '../bench/process-usage.ts';
import type { ProbeAnswer } from './agent-probe.ts';

/** One look at the agent's process when nothing is under way. */
export interface ProcessSample {
  /** Minutes since the soak began. */
  readonly atMinutes: number;
  /** Anonymous memory of the process after a collection of garbage. */
  readonly anonymousMib: number;
  /** The heap's live objects with the buffers outside of it. */
  readonly liveMib: number;
  readonly descriptorCount: number;
  readonly timerCount: number;
  /** All that could keep the loop alive, timers included. */
  readonly resourceCount: number;
}

const bytesPerMib = 1024 * 1024;
const probeTimeoutMs = 20_000;

/** Asks the probe, then the kernel. Throws Error when the agent does not answer: it is gone, or its loop stands still. */
export async function takeSample(
  pid: number,
  probeSocketPath: string,
  atMinutes: number,
): Promise<ProcessSample> {
  const { heapUsedBytes, externalBytes, resources } = await askProbe(probeSocketPath);
  return {
    atMinutes,
    anonymousMib: memoryUsage(pid).anonymousMib,
    liveMib: (heapUsedBytes + externalBytes) / bytesPerMib,
    descriptorCount: readdirSync(`/proc/${pid}/fd`).length,
    timerCount: resources['Timeout'] ?? 0,
    resourceCount: Object.values(resources).reduce((sum, count) => sum + count, 0),
  };
}

async function askProbe(path: string): Promise<ProbeAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<ProbeAnswer>();
  const socket = connect(path);
  let text = '';
  socket.setEncoding('utf8');
  socket.on('data', (chunk: string) => {
    text += chunk;
  });
  socket.once('end', () => {
    try {
      resolve(JSON.parse(text) as ProbeAnswer);
    } catch (error) {
      reject(error);
    }
  });
  socket.once('error', reject);
  socket.setTimeout(probeTimeoutMs, () => {
    reject(new Error(`the agent's loop did not answer within ${probeTimeoutMs / 1000} s`));
    socket.destroy();
  });
  return await promise;
}

/** The process that `pid` has started and that runs this file; undefined when there is none. */
export function childRunning(pid: number, programName: string): number | undefined {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(/\s+/);
  return children
    .map(Number)
    .find(
      (child) => child > 0 && readFileSync(`/proc/${child}/comm`, 'latin1').trim().startsWith(programName),
    );
}
