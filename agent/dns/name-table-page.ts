import { type LookupScope, namesOf, ownDomain } from './lookup-table.ts';
import type { NameInfo, NameTable } from './name-table-message.ts';

/**
 * The table as protobuf JSON, with the names that were made for its hosts (istio/istio `pkg/istio-agent/agent.go`,
 * GetDNSTable). Unlike there, a made name says the registry of its host.
 */
export function nameTablePage(table: NameTable, scope: LookupScope): unknown {
  if (table.size === 0) return {};
  const page = new Map<string, object>();
  for (const [host, info] of table) page.set(host, asJson(info));
  const domain = ownDomain(scope);
  for (const [host, info] of table) {
    const { ips, registry } = info;
    for (const name of namesOf(host, info, domain, scope.proxyNamespace)) {
      if (!page.has(name))
        page.set(name, asJson({ ips, registry, shortName: '', namespace: '', altHosts: [] }));
    }
  }
  return { table: page };
}

/** Empty fields are left out. */
function asJson({ ips, registry, shortName, namespace, altHosts }: NameInfo): object {
  return {
    ...(ips.length > 0 && { ips }),
    ...(registry !== '' && { registry }),
    ...(shortName !== '' && { shortname: shortName }),
    ...(namespace !== '' && { namespace }),
    ...(altHosts.length > 0 && { altHosts }),
  };
}
