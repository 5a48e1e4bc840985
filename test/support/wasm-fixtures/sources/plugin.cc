// A proxy-wasm plugin in C++ without an SDK, with what C++ brings along: strings, maps, streams, statics, new.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <map>
#include <sstream>
#include <string>

#define EXPORT(name) __attribute__((export_name(name), used)) extern "C"
#define HOST(name) __attribute__((import_module("env"), import_name(name))) extern "C"

HOST("proxy_log")
int32_t proxy_log(int32_t level, const char *message, size_t size);
HOST("proxy_get_current_time_nanoseconds")
int32_t proxy_get_current_time_nanoseconds(uint64_t *nanoseconds);

namespace {

enum { log_info = 2, action_continue = 0, accepted = 1 };

// Made before `_initialize` returns: a start that calls constructors.
std::map<int32_t, std::string> contexts{{0, "none"}};

void log_text(const std::string &text) { proxy_log(log_info, text.data(), text.size()); }

}  // namespace

EXPORT("proxy_abi_version_0_2_1")
void abi_version() {}

EXPORT("proxy_on_memory_allocate")
void *on_memory_allocate(size_t size) { return std::malloc(size); }

EXPORT("proxy_on_vm_start")
int32_t on_vm_start(int32_t, size_t) {
  std::cerr << "started" << std::endl;
  return accepted;
}

EXPORT("proxy_on_configure")
int32_t on_configure(int32_t context, size_t) {
  uint64_t now = 0;
  proxy_get_current_time_nanoseconds(&now);
  std::ostringstream text;
  text << "configured " << context << " at " << now;
  log_text(text.str());
  return accepted;
}

EXPORT("proxy_on_context_create")
void on_context_create(int32_t context, int32_t parent) {
  contexts[context] = "child of " + std::to_string(parent);
}

EXPORT("proxy_on_request_headers")
int32_t on_request_headers(int32_t context, int32_t, int32_t) {
  log_text(contexts[context]);
  return action_continue;
}

EXPORT("proxy_on_done")
int32_t on_done(int32_t context) {
  contexts.erase(context);
  return accepted;
}
