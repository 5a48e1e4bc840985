import { fromJSON } from '@grpc/proto-loader';

/** `istio.networking.nds.v1.NameTable`, described here anew: an encoder that is not ours (istio/istio `pkg/dns/proto/nds.proto`). */
const definition = fromJSON(
  {
    nested: {
      nds: {
        nested: {
          NameTable: {
            fields: {},
            nested: {
              NameInfo: {
                fields: {
                  ips: { rule: 'repeated', type: 'string', id: 1 },
                  registry: { type: 'string', id: 2 },
                  shortname: { type: 'string', id: 3 },
                  namespace: { type: 'string', id: 4 },
                  alt_hosts: { rule: 'repeated', type: 'string', id: 5 },
                },
              },
            },
          },
          // A method, so that the loader makes an encoder.
          Tables: { methods: { Get: { requestType: 'Table', responseType: 'Table' } } },
          Table: { fields: { table: { keyType: 'string', type: 'NameTable.NameInfo', id: 1 } } },
        },
      },
    },
  } as never,
  { keepCase: true },
);

export interface HostFixture {
  readonly ips?: readonly string[];
  readonly registry?: string;
  readonly shortname?: string;
  readonly namespace?: string;
  readonly alt_hosts?: readonly string[];
}

/** The bytes of a name table. */
export function encodeNameTable(hosts: Readonly<Record<string, HostFixture>>): Buffer {
  const service = definition['nds.Tables'] as unknown as {
    Get: { requestSerialize: (value: object) => Buffer };
  };
  return service.Get.requestSerialize({ table: hosts });
}

/** A service of Kubernetes as istiod tells it. */
export function serviceHost(
  shortname: string,
  namespace: string,
  ...ips: readonly string[]
): readonly [string, HostFixture] {
  return [
    `${shortname}.${namespace}.svc.cluster.local`,
    { ips, registry: 'Kubernetes', shortname, namespace },
  ];
}
