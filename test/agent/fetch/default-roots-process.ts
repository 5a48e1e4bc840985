import { FetchError } from '../../../agent/fetch/types.ts';
import { FetchFixture } from './fetch-fixture.ts';

/** Fetches the URL of the first argument and writes `fetched`, or the code of the error. */
const [url = ''] = process.argv.slice(2);
await using fixture = await FetchFixture.open();
try {
  await fixture.fetch(url);
  process.stdout.write('fetched');
} catch (error) {
  process.stdout.write(error instanceof FetchError ? error.code : String(error));
}
