import {
  type Bytes,
  componentHeader,
  customSection,
  moduleHeader,
  section,
  text,
  unsigned,
  vector,
} from './encoding.ts';
import { i32 } from './module-builder.ts';
import { inner, pluginModule } from './plugin-module.ts';
import { type PreflightCase, rejectedCase } from './preflight-case.ts';

interface Section {
  readonly id: number;
  readonly contents: Bytes;
}

/** The smallest plugin with its sections changed. */
function resected(change: (sections: readonly Section[]) => readonly Bytes[]): Uint8Array {
  const bytes = [...pluginModule()];
  const sections: Section[] = [];
  for (let at = moduleHeader.length; at < bytes.length; ) {
    const [id = 0, low = 0, high = 0] = bytes.slice(at, at + 3);
    // None of its sections has 16,384 bytes: their sizes take one byte or two.
    const start = at + (low < 0x80 ? 2 : 3);
    const end = start + (low < 0x80 ? low : (low & 0x7f) + high * 128);
    sections.push({ id, contents: bytes.slice(start, end) });
    at = end;
  }
  return Uint8Array.from([...moduleHeader, ...change(sections).flat()]);
}

function encode({ id, contents }: Section): Bytes {
  return section(id, contents);
}

/** Changes the contents of the export section. */
function withExports(change: (contents: Bytes) => Bytes): Uint8Array {
  return resected((all) =>
    all.map(({ id, contents }) => section(id, id === 7 ? change(contents) : contents)),
  );
}

/** Modules that Envoy refuses for their bytes alone. */
export const unreadableModules: readonly PreflightCase[] = [
  rejectedCase('is empty', ['not_wasm'], () => new Uint8Array(0)),
  rejectedCase('is text', ['not_wasm'], () => Buffer.from('(module)')),
  rejectedCase('is a gzip file', ['not_wasm'], () => Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3)),
  rejectedCase('is cut off in its header', ['malformed'], () => Uint8Array.from(moduleHeader.slice(0, 7))),
  rejectedCase('is a component', ['component'], () => Uint8Array.from(componentHeader)),
  rejectedCase('has version 2 of the binary format', ['unknown_version'], () => {
    const bytes = pluginModule();
    bytes[4] = 2;
    return bytes;
  }),
  rejectedCase('is cut off in its code', ['malformed'], () => pluginModule().subarray(0, -5)),
  rejectedCase('has bytes after its last section', ['malformed'], () =>
    Uint8Array.from([...pluginModule(), 1, 2, 3]),
  ),
  rejectedCase('has no code', ['malformed'], () =>
    resected((all) => all.filter(({ id }) => id !== 10).map(encode)),
  ),
  rejectedCase('has its export section twice', ['malformed'], () =>
    resected((all) => all.map((each) => [...encode(each), ...(each.id === 7 ? encode(each) : [])])),
  ),
  rejectedCase('has its export section first', ['malformed'], () =>
    resected((all) => all.toSorted((a, b) => Number(b.id === 7) - Number(a.id === 7)).map(encode)),
  ),
  rejectedCase('has a byte after its last export', ['malformed'], () =>
    withExports((contents) => [...contents, 0]),
  ),
  rejectedCase('has a size in six bytes', ['malformed'], () =>
    resected((all) =>
      all.map((each) =>
        each.id === 5 ? [5, 0x83, 0x80, 0x80, 0x80, 0x80, 0x00, ...each.contents] : encode(each),
      ),
    ),
  ),
  rejectedCase('has an unknown section', ['unknown_encoding'], () =>
    pluginModule({ trailingSections: [section(200, [0])] }),
  ),
  rejectedCase('has an unknown form of type', ['unknown_encoding'], () =>
    pluginModule({ leadingTypes: [[0x11]] }),
  ),
  rejectedCase('has an unknown value type', ['unknown_encoding'], () =>
    pluginModule({ functions: [inner([[0x55]], [], [])] }),
  ),
  rejectedCase('has a stringref', ['unknown_encoding'], () =>
    pluginModule({ functions: [inner([[0x67]], [], [])] }),
  ),
  rejectedCase('has a continuation type', ['unknown_encoding'], () =>
    pluginModule({
      leadingTypes: [
        [0x60, 0, 0],
        [0x5d, 0],
      ],
    }),
  ),
  rejectedCase('has a function of 1,001 parameters', ['too_complex'], () =>
    pluginModule({
      functions: [
        inner(
          Array.from({ length: 1001 }, () => i32),
          [],
        ),
      ],
    }),
  ),
  rejectedCase('exports a function that is not there', ['malformed'], () =>
    pluginModule({ exports: [{ name: 'none', kind: 'function', index: 99 }] }),
  ),
  rejectedCase('exports a name twice', ['malformed'], () =>
    pluginModule({ exports: [{ name: 'malloc', kind: 'memory', index: 0 }] }),
  ),
  rejectedCase('exports a name that is not UTF-8', ['malformed'], () =>
    withExports(([count = 0, ...entries]) => [count + 1, ...entries, 2, 0xff, 0xfe, 0, 0]),
  ),
  rejectedCase('has a custom section without a name', ['malformed'], () =>
    pluginModule({ trailingSections: [section(0, [])] }),
  ),
  rejectedCase('has a custom section whose name runs over its end', ['malformed'], () =>
    pluginModule({ trailingSections: [section(0, [20, 97])] }),
  ),
  rejectedCase('has a custom section with a name that is not UTF-8', ['malformed'], () =>
    pluginModule({ trailingSections: [section(0, [2, 0xff, 0xfe])] }),
  ),
  rejectedCase('starts with a function that is not there', ['malformed'], () => pluginModule({ start: 99 })),
  rejectedCase('has a memory with its maximum below its minimum', ['malformed'], () =>
    pluginModule({ memories: [{ min: 3, max: 2 }] }),
  ),
  rejectedCase('announces more names than its name section has', ['malformed_name_section'], () =>
    pluginModule({ trailingSections: [customSection('name', section(1, [5, 0, 1, 97]))] }),
  ),
  rejectedCase('has a name subsection that runs over the end', ['malformed_name_section'], () =>
    pluginModule({ trailingSections: [customSection('name', [1, 100, 1])] }),
  ),
  rejectedCase('has a byte after the names of its functions', ['malformed_name_section'], () =>
    pluginModule({ trailingSections: [customSection('name', section(1, [1, 0, 1, 97, 0]))] }),
  ),
  rejectedCase('has a name section that ends in a number', ['malformed_name_section'], () => {
    const names = vector([[...unsigned(0), ...text('first')], [0x80]]);
    return pluginModule({ trailingSections: [customSection('name', section(1, names))] });
  }),
];
