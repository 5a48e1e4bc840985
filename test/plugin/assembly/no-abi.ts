/** The basic-auth plugin without an ABI version: a sound module that every proxy-wasm host refuses. */
export {
  proxy_on_configure,
  proxy_on_context_create,
  proxy_on_delete,
  proxy_on_done,
  proxy_on_log,
  proxy_on_memory_allocate,
  proxy_on_request_headers,
  proxy_on_vm_start,
} from "./index";
