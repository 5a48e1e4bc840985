// A proxy-wasm plugin without an SDK and without a C library: it logs each request.
#include <stddef.h>
#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(name), used))
#define HOST(name) __attribute__((import_module("env"), import_name(name)))

HOST("proxy_log")
extern int32_t proxy_log(int32_t level, const char *message, size_t size);
HOST("proxy_get_current_time_nanoseconds")
extern int32_t proxy_get_current_time_nanoseconds(uint64_t *nanoseconds);

enum { log_info = 2, action_continue = 0, accepted = 1, heap_bytes = 65536, alignment = 16 };

static _Alignas(16) unsigned char heap[heap_bytes];
static size_t used_bytes;

static void log_text(const char *text, size_t size) { proxy_log(log_info, text, size); }

EXPORT("proxy_abi_version_0_2_1")
void abi_version(void) {}

// Memory is given and never taken back: a test sends a few requests.
EXPORT("proxy_on_memory_allocate")
void *on_memory_allocate(size_t size) {
  size_t rounded = (size + alignment - 1) & ~(size_t)(alignment - 1);
  if (rounded > heap_bytes - used_bytes) return NULL;
  void *start = heap + used_bytes;
  used_bytes += rounded;
  return start;
}

// Emscripten brings its own.
#ifndef __EMSCRIPTEN__
EXPORT("_initialize")
void initialize(void) {}
#endif

EXPORT("proxy_on_vm_start")
int32_t on_vm_start(int32_t context, size_t size) { return accepted; }

EXPORT("proxy_on_configure")
int32_t on_configure(int32_t context, size_t size) {
  uint64_t now = 0;
  proxy_get_current_time_nanoseconds(&now);
  static const char text[] = "configured";
  log_text(text, sizeof text - 1);
  return accepted;
}

EXPORT("proxy_on_context_create")
void on_context_create(int32_t context, int32_t parent) {}

EXPORT("proxy_on_request_headers")
int32_t on_request_headers(int32_t context, int32_t count, int32_t is_last) {
  static const char text[] = "request";
  log_text(text, sizeof text - 1);
  return action_continue;
}

EXPORT("proxy_on_done")
int32_t on_done(int32_t context) { return accepted; }
