/** The first code of the bundle: a function of its own file, so that nothing keeps the whole file in memory. */
import { PartLoader, type PartTable } from './part-loader.ts';

/** What the head of the bundle calls. */
export function runBundle(
  require: (name: string) => unknown,
  bundlePath: string,
  table: PartTable,
): PartLoader {
  const loader = new PartLoader({
    bundlePath,
    cachePath: bundlePath.replace(/\.cjs$/, '.cache'),
    table,
    require,
  });
  loader.run();
  return loader;
}
