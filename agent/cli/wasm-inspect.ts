import { readFetchInputs } from './fetch-inputs.ts';
import { type Inspection, refusalsOf } from './inspection.ts';
import { formatInspection } from './inspection-text.ts';
import { inspectReference } from './module-inspector.ts';
import { readModuleReference } from './module-reference.ts';
import { exitCodes, flagText, isFlagSet, type OperatorFlags } from './operator-run.ts';

/**
 * `wasm inspect`: fetches a module as the agent would, tells how it was found and whether Envoy would be given it, and
 * keeps nothing. Throws CommandError.
 */
export async function inspectWasm(text: string, flags: OperatorFlags, signal: AbortSignal): Promise<number> {
  const inputs = await readFetchInputs(flags);
  const reference = await readModuleReference(text);
  const inspection = await inspectReference(reference, { inputs, image: flagText(flags, 'image'), signal });
  process.stdout.write(
    isFlagSet(flags, 'json')
      ? `${JSON.stringify(inspectionDocument(inspection), null, 2)}\n`
      : formatInspection(inspection),
  );
  return refusalsOf(inspection).length === 0 ? exitCodes.fine : exitCodes.refused;
}

function inspectionDocument(inspection: Inspection): unknown {
  const refusals = refusalsOf(inspection);
  return { ...inspection, verdict: refusals.length === 0 ? 'fine' : 'refused', refusals };
}
