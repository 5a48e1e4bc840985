import { hashFile } from '../../cache/blob-hash.ts';
import type { Sha256 } from '../../cache/types.ts';
import { displayUrl } from '../fetch/module-url.ts';
import { matchPin } from '../fetch/pin.ts';
import { FetchError, type FetchedModule, type ModuleDigests, type ModuleRequest } from '../fetch/types.ts';
import { decideModule, type ModuleDecision, refuseDigests } from '../policy/policy.ts';
import type { Policy } from '../policy/policy-data.ts';
import { inspectModule } from '../wasm/preflight/preflight.ts';
import { envoyMaxMemoryPages } from '../wasm/preflight/verdict.ts';
import type { FetchInputs } from './fetch-inputs.ts';
import type {
  FetchFinding,
  Inspection,
  ModuleFinding,
  PolicyFinding,
  SignatureFinding,
} from './inspection.ts';
import { type LayoutImage, readLayoutImage } from './layout-image.ts';
import type { ModuleReference } from './module-reference.ts';
import { ScratchSource } from './scratch-source.ts';

/** A module of this size at most is also shown to the V8 of this process, whole: the pod's memory is small. */
const validateUpToBytes = 16 * 1024 * 1024;

/** Finds out all about a module. Nothing of it is kept. Throws CommandError and the signal's reason. */
export async function inspectReference(
  reference: ModuleReference,
  options: {
    readonly inputs: FetchInputs;
    /** Which image of a layout; empty: there is only one. */
    readonly image: string;
    readonly signal: AbortSignal;
  },
): Promise<Inspection> {
  switch (reference.kind) {
    case 'file':
      return inspectFile(reference.path, options.inputs, options.signal);
    case 'url': {
      await using scratch = await ScratchSource.open(options.inputs);
      return await inspectUrl(reference.url, scratch, options.inputs, options.signal);
    }
    case 'layout': {
      const image = await readLayoutImage(reference.folder, options.image);
      await using scratch = await ScratchSource.open(options.inputs);
      return await inspectLayout(image, scratch, options.inputs, options.signal);
    }
    default:
      return reference satisfies never;
  }
}

async function inspectFile(path: string, inputs: FetchInputs, signal: AbortSignal): Promise<Inspection> {
  const { policy, pin } = inputs;
  const { digest } = await hashFile(path, { signal });
  const digests = { index: [], module: digest };
  const fetched = {
    kind: 'fetched',
    from: `file ${path}`,
    trace: { tried: [], steps: [] },
    digests,
    matchedPin: pin === undefined ? undefined : matchPin(pin, digests),
  } as const;
  const isPinned = pin === undefined || fetched.matchedPin !== undefined;
  const reason = `${path} has sha256 ${digest}, which is not ${pin}; correct the pin, or take the file it names`;
  return {
    reference: path,
    policy: findingOf(policy, decideModule(policy, { kind: 'local', path, sha256: digest })),
    fetch: isPinned ? fetched : { kind: 'failed', code: 'checksum_mismatched', reason },
    signature: { kind: 'not-asked' },
    module: await inspectBytes(path, policy, signal),
  };
}

async function inspectUrl(
  url: string,
  scratch: ScratchSource,
  inputs: FetchInputs,
  signal: AbortSignal,
): Promise<Inspection> {
  const { policy } = inputs;
  const decision = decideModule(policy, { kind: 'remote', url });
  const request = requestOf(url, inputs);
  // First without asking for a signature: what it lacks is told beside all the rest.
  const fetched = await settled(async () => scratch.source.fetch(request, { signal }), signal);
  if (fetched instanceof FetchError) {
    return {
      reference: displayUrl(url),
      policy: findingOf(policy, decision),
      fetch: failed(fetched),
      signature: { kind: 'not-asked' },
      module: undefined,
    };
  }
  const verify = async (): Promise<FetchedModule> => {
    scratch.isSignatureAsked = true;
    return scratch.source.fetch(request, { signal });
  };
  return {
    reference: displayUrl(url),
    policy: findingOf(policy, proven(decision, url, fetched)),
    fetch: found(fetched),
    signature: await findSignature(decision, verify, signal),
    module: await inspectBytes(fetched.path, policy, signal),
  };
}

async function inspectLayout(
  image: LayoutImage,
  scratch: ScratchSource,
  inputs: FetchInputs,
  signal: AbortSignal,
): Promise<Inspection> {
  const { policy } = inputs;
  const reference = image.name === undefined ? image.folder : `${image.folder} (${image.name})`;
  const decision =
    image.url === undefined ? undefined : decideModule(policy, { kind: 'remote', url: image.url });
  const request = requestOf(image.url ?? image.digestUrl, inputs);
  const fetched = await settled(async () => scratch.fetchFromLayout(image, request, signal), signal);
  const policyFinding = (judged: ModuleDecision | undefined): PolicyFinding =>
    judged === undefined
      ? notJudged(
          policy,
          'the image has no full name in the folder; --image with one, or an oci:// URL, is judged',
        )
      : findingOf(policy, judged);
  if (fetched instanceof FetchError) {
    return {
      reference,
      policy: policyFinding(decision),
      fetch: failed(fetched),
      signature: { kind: 'not-asked' },
      module: undefined,
    };
  }
  const verify = async (): Promise<FetchedModule> => {
    scratch.isSignatureAsked = true;
    return scratch.fetchFromLayout(image, request, signal);
  };
  return {
    reference,
    policy: policyFinding(
      decision === undefined || image.url === undefined ? undefined : proven(decision, image.url, fetched),
    ),
    fetch: found(fetched),
    signature: decision === undefined ? { kind: 'not-asked' } : await findSignature(decision, verify, signal),
    module: await inspectBytes(fetched.path, policy, signal),
  };
}

function requestOf(url: string, { pin, timeoutMs, pullSecret }: FetchInputs): ModuleRequest {
  return {
    resourceName: 'wasm inspect',
    url,
    sha256: pin,
    timeoutMs,
    pullPolicy: 'unspecified',
    pullSecret,
    pluginResourceVersion: '',
  };
}

/** The decision when the bytes are known. */
function proven(decision: ModuleDecision, url: string, { digests }: FetchedModule): ModuleDecision {
  if (!decision.allowed || digests === undefined) return decision;
  return refuseDigests(decision, url, allDigests(digests)) ?? decision;
}

/** Every digest of the chain. */
export function allDigests({ index, manifest, layer, archive, module }: ModuleDigests): readonly Sha256[] {
  return [...index, manifest, layer, archive, module].filter((digest) => digest !== undefined);
}

function findingOf(policy: Policy, decision: ModuleDecision): PolicyFinding {
  if (policy.file === undefined) return { kind: 'none' };
  if (!decision.allowed) return { kind: 'refused', reason: decision.reason };
  const { name, file, line } = decision.rule;
  return { kind: 'allowed', rule: `${name} in ${file} line ${line}` };
}

function notJudged(policy: Policy, reason: string): PolicyFinding {
  return policy.file === undefined ? { kind: 'none' } : { kind: 'not-judged', reason };
}

async function findSignature(
  decision: ModuleDecision,
  verify: () => Promise<FetchedModule>,
  signal: AbortSignal,
): Promise<SignatureFinding> {
  if (!decision.allowed || decision.signers.length === 0) return { kind: 'not-asked' };
  const verified = await settled(verify, signal);
  if (verified instanceof FetchError) {
    return { kind: verified.code === 'unsigned' ? 'refused' : 'unknown', reason: verified.message };
  }
  const { signature } = verified;
  if (signature !== undefined) return { kind: 'verified', ...signature };
  return {
    kind: 'unknown',
    reason: `nobody has verified it; ${decision.signers.join(' or ')} must have signed`,
  };
}

async function inspectBytes(path: string, policy: Policy, signal: AbortSignal): Promise<ModuleFinding> {
  const { maxMemoryPages } = policy.caps;
  const limits = { maxMemoryPages: Math.min(envoyMaxMemoryPages, maxMemoryPages ?? envoyMaxMemoryPages) };
  const [{ summary, verdict }, { sizeBytes }] = await Promise.all([
    inspectModule(path, { limits, validateUpToBytes, signal }),
    hashFile(path, { signal }),
  ]);
  return { sizeBytes, summary, preflight: verdict };
}

function failed({ code, message }: FetchError): FetchFinding {
  return { kind: 'failed', code, reason: message };
}

function found(module: FetchedModule): FetchFinding {
  return {
    kind: 'fetched',
    from: module.sourceName ?? module.source,
    trace: module.trace ?? { tried: [], steps: [] },
    digests: module.digests ?? { index: [], module: module.digest },
    matchedPin: module.matchedPin,
  };
}

/** A failure to fetch is a finding; an interruption and faults of the program are not. */
async function settled<Value>(work: () => Promise<Value>, signal: AbortSignal): Promise<Value | FetchError> {
  try {
    return await work();
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof FetchError) return error;
    throw error;
  }
}
