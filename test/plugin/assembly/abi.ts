/**
 * The part of the proxy-wasm ABI 0.2.1 that a header filter needs: host calls wrapped so that the rest of the
 * plugin sees strings. Memory that the host writes into comes from `proxy_on_memory_allocate` and is freed here.
 * Source: proxy-wasm/spec, abi-versions/v0.2.1.
 */

@external("env", "proxy_log")
declare function proxy_log(level: u32, text: usize, size: u32): u32;

@external("env", "proxy_get_buffer_bytes")
declare function proxy_get_buffer_bytes(type: u32, start: u32, length: u32, textOut: usize, sizeOut: usize): u32;

@external("env", "proxy_get_header_map_value")
declare function proxy_get_header_map_value(map: u32, key: usize, keySize: u32, textOut: usize, sizeOut: usize): u32;

@external("env", "proxy_add_header_map_value")
declare function proxy_add_header_map_value(map: u32, key: usize, keySize: u32, value: usize, valueSize: u32): u32;

@external("env", "proxy_send_local_response")
declare function proxy_send_local_response(
  status: u32,
  details: usize,
  detailsSize: u32,
  body: usize,
  bodySize: u32,
  headers: usize,
  headersSize: u32,
  grpcStatus: i32,
): u32;

/** What a header callback answers: go on, or stop because this filter has taken the request over. */
export const CONTINUE: u32 = 0;
export const STOP_ITERATION: u32 = 1;

const STATUS_OK: u32 = 0;
const LOG_ERROR: u32 = 4;
const BUFFER_PLUGIN_CONFIGURATION: u32 = 7;
const MAP_REQUEST_HEADERS: u32 = 0;
const MAP_RESPONSE_HEADERS: u32 = 2;
const NO_GRPC_STATUS: i32 = -1;

/** Where the host writes the address and the size of what it hands over: two words, reused by every call. */
const handedOver = memory.data(8);

/** The host asks for memory in which it hands bytes over. */
export function proxy_on_memory_allocate(size: usize): usize {
  return heap.alloc(size);
}

function takeText(status: u32): string | null {
  if (status !== STATUS_OK) return null;
  const address = load<usize>(handedOver);
  const size = load<u32>(handedOver, 4);
  if (address === 0) return "";
  const text = String.UTF8.decodeUnsafe(address, size);
  heap.free(address);
  return text;
}

/** Writes an error line to Envoy's log. */
export function logError(message: string): void {
  const text = String.UTF8.encode(message);
  proxy_log(LOG_ERROR, changetype<usize>(text), text.byteLength);
}

/** The plugin's configuration text; null when the host refuses to give it. */
export function pluginConfiguration(size: u32): string | null {
  store<u64>(handedOver, 0);
  return takeText(proxy_get_buffer_bytes(BUFFER_PLUGIN_CONFIGURATION, 0, size, handedOver, handedOver + 4));
}

/** A request header's value by its lower-case name; null when it is absent. */
export function requestHeader(name: string): string | null {
  const key = String.UTF8.encode(name);
  store<u64>(handedOver, 0);
  return takeText(
    proxy_get_header_map_value(MAP_REQUEST_HEADERS, changetype<usize>(key), key.byteLength, handedOver, handedOver + 4),
  );
}

/** Adds a response header. */
export function addResponseHeader(name: string, value: string): void {
  const key = String.UTF8.encode(name);
  const text = String.UTF8.encode(value);
  proxy_add_header_map_value(
    MAP_RESPONSE_HEADERS,
    changetype<usize>(key),
    key.byteLength,
    changetype<usize>(text),
    text.byteLength,
  );
}

/** Answers the request in place of the upstream, with one header. `details` shows in access logs. */
export function reply(status: u32, details: string, body: string, headerName: string, headerValue: string): void {
  const headers = serializePair(headerName, headerValue);
  const detailsText = String.UTF8.encode(details);
  const bodyText = String.UTF8.encode(body);
  proxy_send_local_response(
    status,
    changetype<usize>(detailsText),
    detailsText.byteLength,
    changetype<usize>(bodyText),
    bodyText.byteLength,
    changetype<usize>(headers),
    headers.byteLength,
    NO_GRPC_STATUS,
  );
}

/** The ABI's form of a header map with one entry: count, both sizes, then both texts, each with a closing zero. */
function serializePair(name: string, value: string): ArrayBuffer {
  const nameSize = String.UTF8.byteLength(name);
  const valueSize = String.UTF8.byteLength(value);
  const map = new ArrayBuffer(4 + 8 + nameSize + 1 + valueSize + 1);
  const base = changetype<usize>(map);
  store<u32>(base, 1);
  store<u32>(base + 4, nameSize);
  store<u32>(base + 8, valueSize);
  String.UTF8.encodeUnsafe(changetype<usize>(name), name.length, base + 12);
  String.UTF8.encodeUnsafe(changetype<usize>(value), value.length, base + 12 + nameSize + 1);
  return map;
}
