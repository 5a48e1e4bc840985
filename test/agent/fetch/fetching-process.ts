import { FetchFixture } from './fetch-fixture.ts';
import { pullSecret } from './image-registry.ts';

/**
 * Fetches the images of `<host>/plugin:v<number>` into the cache folder, one after the other with a pull secret, and
 * writes the number of each in a line when its records are on disk. For a test that kills it.
 * Usage: fetching-process.ts <folder> <host> <first number> <last number>
 */
const [folder = '', host = '', first = '', last = ''] = process.argv.slice(2);
await using fixture = await FetchFixture.over(folder);
for (let number = Number(first); number <= Number(last); number += 1) {
  await fixture.fetch(`oci://${host}/plugin:v${number}`, { pullSecret: pullSecret(host, 'ann', 'pw') });
  await fixture.flush();
  process.stdout.write(`${number}\n`);
}
