import { registerHooks } from 'node:module';
import type { FetchedModule } from '../../../agent/fetch/types.ts';

/**
 * Opens the cache folder of the first argument, does one step, and writes which packages it loaded for it, with the
 * source of the module, as JSON. A process of its own, because a package is loaded once.
 */
const [folder = '', url = '', step = ''] = process.argv.slice(2);
const loaded = new Set<string>();
registerHooks({
  resolve: (specifier, context, next) => {
    const result = next(specifier, context);
    const [, name] = /\/node_modules\/(undici|zod)\//.exec(result.url) ?? [];
    if (name !== undefined) loaded.add(name);
    return result;
  },
});
const { FetchFixture } = await import('./fetch-fixture.ts');
await using fixture = await FetchFixture.over(folder);
loaded.clear();
const sources: FetchedModule['source'][] = [];
if (step === 'expect') await fixture.source.expectPush();
else sources.push((await fixture.fetch(url)).source);
process.stdout.write(JSON.stringify([...sources, ...[...loaded].sort()]));
