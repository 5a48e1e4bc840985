/**
 * The basic-auth plugin. Envoy runs plugins with identical bytes in one VM, so nothing about a plugin is global:
 * each root context (one plugin configuration) has its own rules, and each stream finds those of its root.
 */
import { CONTINUE, STOP_ITERATION, logError, pluginConfiguration, reply, requestHeader } from "./abi";
import { BasicAuthConfig, Rule, readConfig } from "./basic-auth-config";

export { proxy_abi_version_0_2_1 } from "./abi-version";
export { proxy_on_memory_allocate } from "./abi";

const NO_PARENT: u32 = 0;
const SCHEME = "Basic ";

/** The accepted configuration of each root context, by its id. */
const roots = new Map<u32, BasicAuthConfig>();
/** The root context of each stream context, by the stream's id. */
const rootOfStream = new Map<u32, u32>();

export function proxy_on_context_create(id: u32, parent: u32): void {
  if (parent === NO_PARENT) roots.set(id, new BasicAuthConfig());
  else rootOfStream.set(id, parent);
}

export function proxy_on_vm_start(_root: u32, _size: u32): u32 {
  return 1;
}

/** 0 refuses the configuration: Envoy then rejects the resource. */
export function proxy_on_configure(root: u32, size: u32): u32 {
  const text = size === 0 ? "" : pluginConfiguration(size);
  if (text === null) {
    logError("basic_auth: the host did not hand over the configuration");
    return 0;
  }
  const config = readConfig(text);
  if (config.error.length > 0) {
    logError("basic_auth: configuration refused: " + config.error);
    return 0;
  }
  roots.set(root, config);
  return 1;
}

export function proxy_on_request_headers(stream: u32, _headerCount: u32, _isEnd: u32): u32 {
  const path = requestHeader(":path");
  const method = requestHeader(":method");
  const root: u32 = rootOfStream.has(stream) ? rootOfStream.get(stream) : NO_PARENT;
  if (path === null || method === null || !roots.has(root)) {
    reply(500, "basic_auth_no_context", "Basic Auth cannot tell which rules apply.", "Cache-Control", "no-store");
    return STOP_ITERATION;
  }
  const config = roots.get(root);
  const authorization = requestHeader("authorization");
  for (let i = 0; i < config.rules.length; i++) {
    if (!config.rules[i].covers(path, method)) continue;
    const denial = denialOf(config.rules[i], authorization);
    if (denial.length === 0) continue;
    reply(401, "basic_auth_denied", denial, "WWW-Authenticate", 'Basic realm="' + quoted(config.realm) + '"');
    return STOP_ITERATION;
  }
  return CONTINUE;
}

/** Why the rule refuses the header; empty when it admits it. */
function denialOf(rule: Rule, authorization: string | null): string {
  if (authorization === null || !authorization.startsWith(SCHEME)) {
    return "Request denied by Basic Auth check. No Basic Authentication information found.";
  }
  if (rule.credentials.includes(authorization.substring(SCHEME.length))) return "";
  return "Request denied by Basic Auth check. Invalid username and/or password.";
}

/** The inside of an HTTP quoted-string (RFC 9110 section 5.6.4). */
function quoted(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"');
}

export function proxy_on_done(_id: u32): u32 {
  return 1;
}

export function proxy_on_log(_id: u32): void {}

export function proxy_on_delete(id: u32): void {
  rootOfStream.delete(id);
  roots.delete(id);
}
