/**
 * The configuration of the basic-auth plugin, in the JSON schema of Istio's public basic_auth module
 * (istio-ecosystem/wasm-extensions, extensions/basic_auth). Stricter than that one: unknown fields, empty texts and
 * a configuration without rules are errors, because a filter that guards nothing must not look healthy.
 */
import { decodeBase64, encodeBase64 } from "./base64";
import { JsonKind, JsonReader, JsonValue } from "./json";

export enum PathMatch {
  Prefix,
  Exact,
  Suffix,
}

/** Requests with one of the methods and a matching path need one of the credentials. */
export class Rule {
  match: PathMatch = PathMatch.Exact;
  path: string = "";
  methods: string[] = [];
  /** As they stand in the header after `Basic `: padded base64. */
  credentials: string[] = [];

  covers(path: string, method: string): bool {
    if (!this.methods.includes(method)) return false;
    if (this.match === PathMatch.Prefix) return path.startsWith(this.path);
    if (this.match === PathMatch.Suffix) return path.endsWith(this.path);
    return path == this.path;
  }
}

/** The rules and the realm of one plugin. `error` is empty, or says what is wrong without showing a credential. */
export class BasicAuthConfig {
  rules: Rule[] = [];
  realm: string = "istio";
  error: string = "";
}

/** Reads a configuration text. Look at `error` before use. */
export function readConfig(text: string): BasicAuthConfig {
  const config = new BasicAuthConfig();
  const reader = new JsonReader(text);
  const document = reader.read();
  if (document === null) {
    config.error = "not valid JSON: " + reader.error;
    return config;
  }
  if (document.kind !== JsonKind.Object) {
    config.error = "the configuration must be a JSON object";
    return config;
  }
  config.error = unknownField(document, ["basic_auth_rules", "realm"], "");
  if (config.error.length > 0) return config;
  const rules = document.member("basic_auth_rules");
  if (rules === null || rules.kind !== JsonKind.Array || rules.items.length === 0) {
    config.error = "'basic_auth_rules' must be a list with at least one rule";
    return config;
  }
  for (let i = 0; i < rules.items.length && config.error.length === 0; i++) {
    readRule(config, rules.items[i], "basic_auth_rules[" + i.toString() + "]");
  }
  const realm = document.member("realm");
  if (config.error.length === 0 && realm !== null) {
    if (!isText(realm) || !isHeaderText(realm.text)) config.error = "'realm' must be a non-empty printable text";
    else config.realm = realm.text;
  }
  return config;
}

function readRule(config: BasicAuthConfig, value: JsonValue, where: string): void {
  if (value.kind !== JsonKind.Object) {
    config.error = where + " must be an object";
    return;
  }
  config.error = unknownField(value, ["prefix", "exact", "suffix", "request_methods", "credentials"], where + ".");
  if (config.error.length > 0) return;
  const rule = new Rule();
  let pathCount = 0;
  const names: string[] = ["prefix", "exact", "suffix"];
  const matches: PathMatch[] = [PathMatch.Prefix, PathMatch.Exact, PathMatch.Suffix];
  for (let i = 0; i < names.length; i++) {
    const path = value.member(names[i]);
    if (path === null) continue;
    if (!isText(path)) {
      config.error = where + "." + names[i] + " must be a non-empty text";
      return;
    }
    rule.match = matches[i];
    rule.path = path.text;
    pathCount++;
  }
  if (pathCount !== 1) {
    config.error =
      where + " must have exactly one of 'prefix', 'exact' and 'suffix', it has " + pathCount.toString();
    return;
  }
  const methods = texts(value.member("request_methods"));
  if (methods === null) {
    config.error = where + ".request_methods must be a list of at least one method name";
    return;
  }
  rule.methods = methods;
  const credentials = texts(value.member("credentials"));
  if (credentials === null) {
    config.error = where + ".credentials must be a list of at least one text";
    return;
  }
  for (let i = 0; i < credentials.length; i++) {
    const encoded = headerForm(credentials[i]);
    if (encoded === null) {
      config.error =
        where + ".credentials[" + i.toString() + "] must be 'user:password', plain or in base64";
      return;
    }
    rule.credentials.push(encoded);
  }
  config.rules.push(rule);
}

/** A credential as clients send it; null when it is neither `user:password` nor the base64 of one. */
function headerForm(credential: string): string | null {
  if (credential.includes(":")) return encodeBase64(credential);
  const decoded = decodeBase64(credential);
  if (decoded === null || !decoded.includes(":")) return null;
  return encodeBase64(decoded);
}

/** The texts of a list; null when it is absent, empty, or has an item that is not a non-empty text. */
function texts(value: JsonValue | null): string[] | null {
  if (value === null || value.kind !== JsonKind.Array || value.items.length === 0) return null;
  const list: string[] = [];
  for (let i = 0; i < value.items.length; i++) {
    if (!isText(value.items[i])) return null;
    list.push(value.items[i].text);
  }
  return list;
}

function isText(value: JsonValue): bool {
  return value.kind === JsonKind.String && value.text.length > 0;
}

/** The realm goes into a header: no control characters. */
function isHeaderText(text: string): bool {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 0x20 || code > 0x7e) return false;
  }
  return true;
}

function unknownField(value: JsonValue, known: string[], where: string): string {
  for (let i = 0; i < value.keys.length; i++) {
    if (!known.includes(value.keys[i])) {
      return "'" + where + value.keys[i] + "' is not a known field, known are: " + known.join(", ");
    }
  }
  return "";
}
