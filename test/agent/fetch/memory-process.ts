import { FetchFixture } from './fetch-fixture.ts';

/**
 * Fetches a large module from the server of the first argument and writes by how many bytes the memory of the process
 * grew, as JSON. A process of its own, so that the server's memory is not counted.
 */
const [url = ''] = process.argv.slice(2);
await using fixture = await FetchFixture.open({ config: { maxModuleBytes: 268_435_456 } });
// The libraries are loaded before the measurement.
await fixture.fetch(`${url}/small`);
const before = process.memoryUsage.rss();
let peak = before;
const sampler = setInterval(() => {
  peak = Math.max(peak, process.memoryUsage.rss());
}, 5);
const fetched = await fixture.fetch(`${url}/large`);
clearInterval(sampler);
process.stdout.write(JSON.stringify({ growthBytes: peak - before, sizeBytes: fetched.sizeBytes }));
