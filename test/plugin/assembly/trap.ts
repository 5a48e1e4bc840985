/** A plugin that lets requests pass, and whose VM traps at one with the header `x-trap`. */
import { CONTINUE, requestHeader } from "./abi";

export { proxy_abi_version_0_2_1 } from "./abi-version";
export { proxy_on_memory_allocate } from "./abi";

export function proxy_on_context_create(_id: u32, _parent: u32): void {}

export function proxy_on_vm_start(_root: u32, _size: u32): u32 {
  return 1;
}

export function proxy_on_configure(_root: u32, _size: u32): u32 {
  return 1;
}

export function proxy_on_request_headers(_stream: u32, _headerCount: u32, _isEnd: u32): u32 {
  if (requestHeader("x-trap") !== null) unreachable();
  return CONTINUE;
}

export function proxy_on_done(_id: u32): u32 {
  return 1;
}

export function proxy_on_log(_id: u32): void {}

export function proxy_on_delete(_id: u32): void {}
