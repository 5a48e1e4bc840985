import { ModuleReadFailure } from './read-failure.ts';
import type { SectionReader } from './section-reader.ts';

const functionNamesId = 1;

/**
 * Checks the contents of the `name` section the way Envoy does before it compiles: the names of functions must be
 * whole, the other subsections are passed over by their sizes. V8 ignores a bad name section; Envoy refuses the module.
 * Throws ModuleReadFailure. Source: proxy-wasm-cpp-host, src/bytecode_util.cc, getFunctionNameIndex.
 */
export async function checkNameSection(reader: SectionReader): Promise<void> {
  try {
    while (reader.remainingBytes > 0) await checkSubsection(reader);
  } catch (error) {
    if (error instanceof ModuleReadFailure && error.code === 'malformed') {
      throw new ModuleReadFailure('malformed_name_section', error.offset, error.message);
    }
    throw error;
  }
}

async function checkSubsection(reader: SectionReader): Promise<void> {
  const { id, sizeBytes } = await reader.item((each) => ({ id: each.u8(), sizeBytes: each.u32() }));
  const start = reader.position;
  if (sizeBytes > reader.remainingBytes) {
    reader.fail(start, `a subsection of ${sizeBytes} bytes does not fit`);
  }
  if (id !== functionNamesId) {
    reader.skip(sizeBytes);
    return;
  }
  await reader.vector(
    reader.remainingBytes,
    (each) => {
      each.u32();
      // Not checked for UTF-8: Envoy does not.
      each.skip(each.u32());
    },
    () => undefined,
  );
  if (reader.position !== start + sizeBytes) {
    reader.fail(start, `the names of functions take ${reader.position - start} bytes, not ${sizeBytes}`);
  }
}
