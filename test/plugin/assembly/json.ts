/** A small strict JSON reader (RFC 8259). A plugin cannot catch exceptions, so the first error is kept as a text. */

export enum JsonKind {
  Null,
  Boolean,
  Number,
  String,
  Array,
  Object,
}

/** One value. `text` is a string's value; `items` are an array's items or an object's values, in order of `keys`. */
export class JsonValue {
  text: string = "";
  items: JsonValue[] = [];
  keys: string[] = [];

  constructor(public kind: JsonKind) {}

  /** An object's member; null when there is none. */
  member(key: string): JsonValue | null {
    const index = this.keys.indexOf(key);
    return index < 0 ? null : this.items[index];
  }
}

/** Deeper documents are refused: the stack of a plugin is small. */
const MAX_DEPTH = 16;

/** Reads one document. After `read`, `error` is empty or says what is wrong and at which character. */
export class JsonReader {
  error: string = "";
  private at: i32 = 0;

  constructor(private text: string) {}

  /** The document; null when `error` is set. */
  read(): JsonValue | null {
    const value = this.value(0);
    this.skipSpace();
    if (this.error.length === 0 && this.at < this.text.length) this.fail("unexpected text after the document");
    return this.error.length === 0 ? value : null;
  }

  private fail(what: string): void {
    if (this.error.length === 0) this.error = what + " at character " + (this.at + 1).toString();
  }

  private peek(): i32 {
    return this.at < this.text.length ? this.text.charCodeAt(this.at) : -1;
  }

  private skipSpace(): void {
    let code = this.peek();
    while (code === 0x20 || code === 0x09 || code === 0x0a || code === 0x0d) {
      this.at++;
      code = this.peek();
    }
  }

  /** True, and the character is passed, when it is the next one after white space. */
  private take(code: i32): bool {
    this.skipSpace();
    if (this.peek() !== code) return false;
    this.at++;
    return true;
  }

  private value(depth: i32): JsonValue {
    this.skipSpace();
    if (depth > MAX_DEPTH) {
      this.fail("nested deeper than " + MAX_DEPTH.toString() + " levels");
      return new JsonValue(JsonKind.Null);
    }
    const code = this.peek();
    if (code === 0x7b) return this.object(depth);
    if (code === 0x5b) return this.array(depth);
    if (code === 0x22) return this.string();
    if (code === 0x2d || (code >= 0x30 && code <= 0x39)) return this.number();
    if (this.word("true") || this.word("false")) return new JsonValue(JsonKind.Boolean);
    if (!this.word("null")) this.fail("a value is expected");
    return new JsonValue(JsonKind.Null);
  }

  private word(expected: string): bool {
    if (!this.text.startsWith(expected, this.at)) return false;
    this.at += expected.length;
    return true;
  }

  private object(depth: i32): JsonValue {
    const value = new JsonValue(JsonKind.Object);
    this.at++;
    if (this.take(0x7d)) return value;
    while (this.error.length === 0) {
      this.skipSpace();
      if (this.peek() !== 0x22) {
        this.fail("a quoted name is expected");
        break;
      }
      const key = this.string().text;
      if (value.keys.includes(key)) this.fail("'" + key + "' is given twice, the second time");
      if (!this.take(0x3a)) this.fail("':' is expected");
      if (this.error.length > 0) break;
      const item = this.value(depth + 1);
      value.keys.push(key);
      value.items.push(item);
      if (this.take(0x7d)) break;
      if (!this.take(0x2c)) this.fail("',' or '}' is expected");
    }
    return value;
  }

  private array(depth: i32): JsonValue {
    const value = new JsonValue(JsonKind.Array);
    this.at++;
    if (this.take(0x5d)) return value;
    while (this.error.length === 0) {
      value.items.push(this.value(depth + 1));
      if (this.error.length > 0 || this.take(0x5d)) break;
      if (!this.take(0x2c)) this.fail("',' or ']' is expected");
    }
    return value;
  }

  private digits(): void {
    const start = this.at;
    while (this.peek() >= 0x30 && this.peek() <= 0x39) this.at++;
    if (this.at === start) this.fail("a digit is expected");
  }

  private number(): JsonValue {
    if (this.peek() === 0x2d) this.at++;
    if (this.peek() === 0x30) this.at++;
    else this.digits();
    if (this.peek() === 0x2e) {
      this.at++;
      this.digits();
    }
    if (this.peek() === 0x65 || this.peek() === 0x45) {
      this.at++;
      if (this.peek() === 0x2b || this.peek() === 0x2d) this.at++;
      this.digits();
    }
    return new JsonValue(JsonKind.Number);
  }

  private string(): JsonValue {
    const value = new JsonValue(JsonKind.String);
    this.at++;
    let start = this.at;
    while (true) {
      const code = this.peek();
      if (code < 0x20) {
        this.fail(code < 0 ? "a string is not closed" : "a control character stands in a string");
        return value;
      }
      if (code === 0x22 || code === 0x5c) value.text += this.text.substring(start, this.at);
      this.at++;
      if (code === 0x22) return value;
      if (code === 0x5c) {
        value.text += this.escape();
        if (this.error.length > 0) return value;
        start = this.at;
      }
    }
  }

  /** What follows a backslash; surrogates come as two escapes and join as UTF-16 units. */
  private escape(): string {
    const code = this.peek();
    this.at++;
    if (code === 0x22 || code === 0x5c || code === 0x2f) return String.fromCharCode(code);
    if (code === 0x62) return "\b";
    if (code === 0x66) return "\f";
    if (code === 0x6e) return "\n";
    if (code === 0x72) return "\r";
    if (code === 0x74) return "\t";
    if (code !== 0x75) {
      this.fail("an unknown escape stands in a string");
      return "";
    }
    let unit = 0;
    for (let i = 0; i < 4; i++) {
      const digit = hexDigit(this.peek());
      if (digit < 0) {
        this.fail("a hexadecimal digit is expected");
        return "";
      }
      unit = unit * 16 + digit;
      this.at++;
    }
    return String.fromCharCode(unit);
  }
}

function hexDigit(code: i32): i32 {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  if (code >= 0x41 && code <= 0x46) return code - 0x37;
  if (code >= 0x61 && code <= 0x66) return code - 0x57;
  return -1;
}
