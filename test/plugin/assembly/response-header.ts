/**
 * A plugin that shows in each response which build and which configuration answered: it adds `x-plugin-build` with
 * the label it was built with, and the headers of its configuration, `{"response_headers": {"name": "value"}}`.
 */
import { CONTINUE, addResponseHeader, logError, pluginConfiguration } from "./abi";
import { BUILD_LABEL } from "./build-label";
import { JsonKind, JsonReader, JsonValue } from "./json";

export { proxy_abi_version_0_2_1 } from "./abi-version";
export { proxy_on_memory_allocate } from "./abi";

const NO_PARENT: u32 = 0;

/** The `response_headers` object of each root context, by its id; absent when its configuration has none. */
const headersOfRoot = new Map<u32, JsonValue>();
const rootOfStream = new Map<u32, u32>();

export function proxy_on_context_create(id: u32, parent: u32): void {
  if (parent !== NO_PARENT) rootOfStream.set(id, parent);
}

export function proxy_on_vm_start(_root: u32, _size: u32): u32 {
  return 1;
}

export function proxy_on_configure(root: u32, size: u32): u32 {
  if (size === 0) return 1;
  const text = pluginConfiguration(size);
  const reader = new JsonReader(text === null ? "" : text);
  const document = reader.read();
  if (document === null) return refuse("not valid JSON: " + reader.error);
  const headers = document.member("response_headers");
  if (headers === null) return 1;
  if (headers.kind !== JsonKind.Object) return refuse("'response_headers' must be an object");
  for (let i = 0; i < headers.items.length; i++) {
    if (headers.items[i].kind !== JsonKind.String) return refuse("'" + headers.keys[i] + "' must be a text");
  }
  headersOfRoot.set(root, headers);
  return 1;
}

function refuse(why: string): u32 {
  logError("response_header: configuration refused: " + why);
  return 0;
}

export function proxy_on_response_headers(stream: u32, _headerCount: u32, _isEnd: u32): u32 {
  addResponseHeader("x-plugin-build", BUILD_LABEL);
  if (!rootOfStream.has(stream)) return CONTINUE;
  const root = rootOfStream.get(stream);
  if (!headersOfRoot.has(root)) return CONTINUE;
  const headers = headersOfRoot.get(root);
  for (let i = 0; i < headers.keys.length; i++) addResponseHeader(headers.keys[i], headers.items[i].text);
  return CONTINUE;
}

export function proxy_on_done(_id: u32): u32 {
  return 1;
}

export function proxy_on_log(_id: u32): void {}

export function proxy_on_delete(id: u32): void {
  rootOfStream.delete(id);
  headersOfRoot.delete(id);
}
