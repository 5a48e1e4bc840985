import type { Agent, buildConnector, Dispatcher, Pool, ProxyAgent } from 'undici';
import { turnOffWasmTiers } from '../compiler.ts';

/** What is used of undici. */
export interface HttpLibrary {
  readonly Agent: typeof Agent;
  readonly buildConnector: typeof buildConnector;
  /** Sends one request by a dispatcher. */
  readonly request: (
    dispatcher: Dispatcher,
    options: Dispatcher.RequestOptions,
  ) => Promise<Dispatcher.ResponseData>;
}

/** What is used of undici beside that when there is a proxy. */
export interface ProxyLibrary {
  readonly Pool: typeof Pool;
  readonly ProxyAgent: typeof ProxyAgent;
}

/**
 * Loads the parts of undici that are used and no others: the whole, with fetch, cookies, caches and mocks, takes twice
 * the time of the first download and 13 MB more memory in every pod.
 */
export async function loadHttpLibrary(): Promise<HttpLibrary> {
  turnOffWasmTiers();
  const [agent, connect, request] = await Promise.all([
    import('undici/lib/dispatcher/agent.js'),
    import('undici/lib/core/connect.js'),
    import('undici/lib/api/api-request.js'),
  ]);
  return {
    Agent: agent.default,
    buildConnector: connect.default,
    request: async (dispatcher, options) => request.default.call(dispatcher, options),
  };
}

/** Loads what a proxy takes more. Its client calls `connect` of a dispatcher, which undici's index puts there. */
export async function loadProxyLibrary(): Promise<ProxyLibrary> {
  const [pool, proxyAgent, dispatcher, connect] = await Promise.all([
    import('undici/lib/dispatcher/pool.js'),
    import('undici/lib/dispatcher/proxy-agent.js'),
    import('undici/lib/dispatcher/dispatcher.js'),
    import('undici/lib/api/api-connect.js'),
  ]);
  Object.assign(dispatcher.default.prototype, { connect: connect.default });
  return { Pool: pool.default, ProxyAgent: proxyAgent.default };
}
