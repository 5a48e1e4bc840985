/**
 * The config of a Wasm filter, of which the HTTP and the network filter have the same (Envoy API
 * `envoy/extensions/wasm/v3/wasm.proto`, `envoy/config/core/v3/base.proto`). Read as far as the agent needs it, and
 * changed by splicing: what it does not look at stays to the byte.
 */
import {
  bytesTag,
  bytesTags,
  dropFields,
  exchangeField,
  FieldCursor,
  joined,
  MessageWriter,
  messageIn,
  noBytes,
  varintTag,
} from '../../proto/wire.ts';

/** Which filter a config is for. */
export type FilterKind = 'http' | 'network';

/** What is read of it. */
export interface FilterConfig {
  /** Of the plugin, for people; may be empty. */
  readonly name: string;
  /** What the config wants where the plugin cannot run: `failure_policy`, else the deprecated `fail_open`. */
  readonly isFailOpen: boolean;
  readonly vm: VmConfig | undefined;
}

export interface VmConfig {
  readonly runtime: string;
  readonly code: CodeSource | undefined;
  /** `environment_variables.key_values`. */
  readonly environment: ReadonlyMap<string, string>;
}

/** Where the module is. */
export type CodeSource =
  | { readonly kind: 'local'; readonly source: DataSource | undefined }
  | { readonly kind: 'remote'; readonly httpUri: HttpUri | undefined; readonly sha256: string };

export type DataSource =
  | { readonly kind: 'filename' | 'string' | 'environment'; readonly text: string }
  | { readonly kind: 'bytes'; readonly bytes: Buffer };

export interface HttpUri {
  readonly uri: string;
  /** Undefined: the config gives none. A negative one counts as zero. */
  readonly timeoutMs: number | undefined;
}

const filterFields = { config: 1 } as const;
const pluginFields = { name: 1, vmConfig: 3, failOpen: 5, failurePolicy: 7 } as const;
const vmFields = { runtime: 2, code: 3, environment: 7 } as const;
const environmentFields = { keyValues: 2 } as const;
const entryFields = { key: 1, value: 2 } as const;
const codeFields = { local: 1, remote: 2 } as const;
const dataFields = { filename: 1, bytes: 2, string: 3, environment: 4 } as const;
const remoteFields = { httpUri: 1, sha256: 2 } as const;
const uriFields = { uri: 1, timeout: 3 } as const;
const durationFields = { seconds: 1, nanos: 2 } as const;

const pluginTags = {
  name: bytesTag(pluginFields.name),
  vmConfig: bytesTag(pluginFields.vmConfig),
  failOpen: varintTag(pluginFields.failOpen),
  failurePolicy: varintTag(pluginFields.failurePolicy),
};
const vmTags = bytesTags(vmFields);
const environmentTags = bytesTags(environmentFields);
const entryTags = bytesTags(entryFields);
const codeTags = bytesTags(codeFields);
const dataTags = bytesTags(dataFields);
const remoteTags = bytesTags(remoteFields);
const uriTags = bytesTags(uriFields);
const durationTags = { seconds: varintTag(durationFields.seconds), nanos: varintTag(durationFields.nanos) };

/** Of `PluginConfig.FailurePolicy`. */
const failurePolicies = { unspecified: 0, failOpen: 3 } as const;

/** Throws WireFormatError. Messages in which there is nothing to read are not looked into. */
export function readFilterConfig(filter: Buffer): FilterConfig {
  const plugin = messageIn(filter, filterFields.config);
  if (plugin === undefined) return { name: '', isFailOpen: false, vm: undefined };
  const cursor = new FieldCursor(plugin);
  let name = '';
  let failurePolicy: number = failurePolicies.unspecified;
  let isFailOpen = false;
  const vm: Buffer[] = [];
  for (let tag = cursor.next(); tag !== 0; tag = cursor.next()) {
    if (tag === pluginTags.name) name = cursor.text();
    else if (tag === pluginTags.failurePolicy) failurePolicy = cursor.int32();
    else if (tag === pluginTags.failOpen) isFailOpen = cursor.bool();
    else if (tag === pluginTags.vmConfig) vm.push(cursor.bytes());
  }
  if (failurePolicy !== failurePolicies.unspecified) isFailOpen = failurePolicy === failurePolicies.failOpen;
  return { name, isFailOpen, vm: readJoined(vm, readVm) };
}

/** What is changed in a filter. */
export interface FilterChange {
  /** File that the module is in from now on. Undefined: its code stays. */
  readonly codePath?: string;
  /** Of keys of the VM's environment: true for variables that go. */
  readonly isDropped: (key: string) => boolean;
}

/** The filter with these changes. Throws WireFormatError where `readFilterConfig` would. */
export function changedFilter(filter: Buffer, change: FilterChange): Buffer {
  return exchangeField(filter, filterFields.config, (plugin = noBytes) =>
    exchangeField(plugin, pluginFields.vmConfig, (vm = noBytes) => changedVm(vm, change)),
  );
}

function changedVm(vm: Buffer, { codePath, isDropped }: FilterChange): Buffer {
  const cleaned = exchangeField(
    vm,
    vmFields.environment,
    (environment) => environment && withoutVariables(environment, isDropped),
  );
  if (codePath === undefined) return cleaned;
  const local = new MessageWriter().text(dataFields.filename, codePath);
  const code = new MessageWriter().message(codeFields.local, local);
  return exchangeField(cleaned, vmFields.code, () => code.finish());
}

/** Undefined when nothing is left. */
function withoutVariables(environment: Buffer, isDropped: (key: string) => boolean): Buffer | undefined {
  const kept = dropFields(
    environment,
    (tag, field) => tag === environmentTags.keyValues && isDropped(readEntry(field.bytes()).key),
  );
  return kept.length === 0 ? undefined : kept;
}

function readVm(vm: Buffer): VmConfig {
  const cursor = new FieldCursor(vm);
  let runtime = '';
  const code: Buffer[] = [];
  const environment: Buffer[] = [];
  for (let tag = cursor.next(); tag !== 0; tag = cursor.next()) {
    if (tag === vmTags.runtime) runtime = cursor.text();
    else if (tag === vmTags.code) code.push(cursor.bytes());
    else if (tag === vmTags.environment) environment.push(cursor.bytes());
  }
  return {
    runtime,
    code: readJoined(code, readCode),
    environment: readEnvironment(joined(environment) ?? noBytes),
  };
}

function readEnvironment(environment: Buffer): ReadonlyMap<string, string> {
  const cursor = new FieldCursor(environment);
  const variables = new Map<string, string>();
  for (let tag = cursor.next(); tag !== 0; tag = cursor.next()) {
    if (tag !== environmentTags.keyValues) continue;
    const { key, value } = readEntry(cursor.bytes());
    variables.set(key, value);
  }
  return variables;
}

function readEntry(entry: Buffer): { readonly key: string; readonly value: string } {
  const cursor = new FieldCursor(entry);
  let key = '';
  let value = '';
  for (let tag = cursor.next(); tag !== 0; tag = cursor.next()) {
    if (tag === entryTags.key) key = cursor.text();
    else if (tag === entryTags.value) value = cursor.text();
  }
  return { key, value };
}

/** Of the members of a oneof the last one counts, with the pieces of it that came right before. */
function readCode(code: Buffer): CodeSource | undefined {
  const cursor = new FieldCursor(code);
  let member = 0;
  let pieces: Buffer[] = [];
  for (let tag = cursor.next(); tag !== 0; tag = cursor.next()) {
    if (tag !== codeTags.local && tag !== codeTags.remote) continue;
    if (tag !== member) pieces = [];
    member = tag;
    pieces.push(cursor.bytes());
  }
  return readJoined(pieces, (content) =>
    member === codeTags.local ? { kind: 'local', source: readData(content) } : readRemote(content),
  );
}

function readData(data: Buffer): DataSource | undefined {
  const cursor = new FieldCursor(data);
  let source: DataSource | undefined;
  for (let tag = cursor.next(); tag !== 0; tag = cursor.next()) {
    if (tag === dataTags.filename) source = { kind: 'filename', text: cursor.text() };
    else if (tag === dataTags.bytes) source = { kind: 'bytes', bytes: cursor.bytes() };
    else if (tag === dataTags.string) source = { kind: 'string', text: cursor.text() };
    else if (tag === dataTags.environment) source = { kind: 'environment', text: cursor.text() };
  }
  return source;
}

function readRemote(remote: Buffer): CodeSource {
  const cursor = new FieldCursor(remote);
  let sha256 = '';
  const httpUri: Buffer[] = [];
  for (let tag = cursor.next(); tag !== 0; tag = cursor.next()) {
    if (tag === remoteTags.sha256) sha256 = cursor.text();
    else if (tag === remoteTags.httpUri) httpUri.push(cursor.bytes());
  }
  return { kind: 'remote', httpUri: readJoined(httpUri, readUri), sha256 };
}

function readUri(httpUri: Buffer): HttpUri {
  const cursor = new FieldCursor(httpUri);
  let uri = '';
  const timeout: Buffer[] = [];
  for (let tag = cursor.next(); tag !== 0; tag = cursor.next()) {
    if (tag === uriTags.uri) uri = cursor.text();
    else if (tag === uriTags.timeout) timeout.push(cursor.bytes());
  }
  return { uri, timeoutMs: readJoined(timeout, readDurationMs) };
}

function readDurationMs(duration: Buffer): number {
  const cursor = new FieldCursor(duration);
  let seconds = 0;
  let nanos = 0;
  for (let tag = cursor.next(); tag !== 0; tag = cursor.next()) {
    if (tag === durationTags.seconds) seconds = cursor.int64();
    else if (tag === durationTags.nanos) nanos = cursor.int32();
  }
  return Math.max(0, seconds * 1_000 + nanos / 1e6);
}

function readJoined<Value>(pieces: readonly Buffer[], read: (message: Buffer) => Value): Value | undefined {
  const message = joined(pieces);
  return message && read(message);
}
