import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { ProcessMetrics } from '../../metrics/process-metrics.ts';
import { MetricRegistry } from '../../metrics/registry.ts';

const root = await mkdtemp(join(tmpdir(), 'ferry-proc-'));
after(() => rm(root, { recursive: true }));

const files: Readonly<Record<string, string>> = {
  'self/stat':
    '42 (a (odd) name) S 1 42 42 0 -1 4194304 100 0 0 0 725 75 0 0 20 0 11 0 371 1929015296 9699 18446744073709551615\n',
  'self/status': 'Name:\tnode\nVmSize:\t 1883804 kB\nVmRSS:\t   38796 kB\n',
  'self/limits': [
    'Limit                     Soft Limit           Hard Limit           Units     ',
    'Max open files            20000                524288               files     ',
    'Max address space         unlimited            unlimited            bytes     ',
    '',
  ].join('\n'),
  'self/net/netstat': [
    'TcpExt: SyncookiesSent InOctets',
    'TcpExt: 1 2',
    'IpExt: InNoRoutes InOctets OutOctets InMcastOctets',
    'IpExt: 0 20342919790 19888961696 0',
    '',
  ].join('\n'),
  stat: 'cpu  1 2 3\nintr 5 0 0\nbtime 1795257300\nprocesses 7\n',
};

async function makeProc(name: string): Promise<string> {
  const folder = join(root, name);
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), text);
  }
  for (const descriptor of ['0', '1', '2', '3', '4']) {
    await mkdir(join(folder, 'self/fd', descriptor), { recursive: true });
  }
  return folder;
}

async function scrape(procFolder?: string): Promise<string> {
  const registry = new MetricRegistry();
  const metrics = new ProcessMetrics(registry, procFolder === undefined ? {} : { procFolder });
  try {
    return await registry.exposition();
  } finally {
    metrics.close();
  }
}

function samplesOf(text: string): readonly string[] {
  return text.split('\n').filter((line) => line.startsWith('istio_agent_process_'));
}

test('the process is described from the files of the kernel, numbers as the stock agent writes them', async () => {
  assert.deepEqual(samplesOf(await scrape(await makeProc('whole'))), [
    'istio_agent_process_cpu_seconds_total 8',
    'istio_agent_process_max_fds 20000',
    'istio_agent_process_network_receive_bytes_total 2.034291979e+10',
    'istio_agent_process_network_transmit_bytes_total 1.9888961696e+10',
    'istio_agent_process_open_fds 4',
    'istio_agent_process_resident_memory_bytes 3.9727104e+07',
    'istio_agent_process_start_time_seconds 1.79525730371e+09',
    'istio_agent_process_virtual_memory_bytes 1.929015296e+09',
    'istio_agent_process_virtual_memory_max_bytes 1.8446744073709552e+19',
  ]);
});

test('what the kernel does not tell is absent, and the rest stays', async () => {
  assert.deepEqual(samplesOf(await scrape(join(root, 'nowhere'))), []);
  const folder = await makeProc('partial');
  await rm(join(folder, 'self/net/netstat'));
  await writeFile(join(folder, 'self/stat'), 'nonsense');
  assert.deepEqual(samplesOf(await scrape(folder)), [
    'istio_agent_process_max_fds 20000',
    'istio_agent_process_open_fds 4',
    'istio_agent_process_resident_memory_bytes 3.9727104e+07',
    'istio_agent_process_virtual_memory_bytes 1.929015296e+09',
    'istio_agent_process_virtual_memory_max_bytes 1.8446744073709552e+19',
  ]);
});

test('the heap and the event loop of this very process are described', async () => {
  const registry = new MetricRegistry();
  const metrics = new ProcessMetrics(registry);
  // The first sample of the event loop comes when its timer has fired twice.
  let text = '';
  while (!text.includes('nodejs_eventloop_lag_max_seconds')) {
    await new Promise((resolve) => setImmediate(resolve));
    text = await registry.exposition();
  }
  metrics.close();
  for (const name of [
    'nodejs_heap_size_total_bytes',
    'nodejs_heap_size_used_bytes',
    'nodejs_external_memory_bytes',
  ]) {
    const value = new RegExp(`^istio_agent_${name} (\\S+)$`, 'm').exec(text)?.[1];
    assert.ok(Number(value) > 0, `${name} is ${value}`);
  }
  assert.ok(text.includes(`istio_agent_nodejs_version_info{version="${process.version}"} 1\n`));
  for (const name of ['mean', 'max', 'p99']) {
    const value = new RegExp(`^istio_agent_nodejs_eventloop_lag_${name}_seconds (\\S+)$`, 'm').exec(
      text,
    )?.[1];
    assert.ok(Number(value) >= 0, `${name} is ${value}`);
  }
});
