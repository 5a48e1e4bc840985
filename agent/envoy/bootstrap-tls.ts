import type { ClientTlsSettings } from '../config/proxy-config.ts';
import type { JsonObject } from './json.ts';

/** Secrets that exist only once the certificate authority has answered: Envoy waits for them without limit. */
const workloadSecrets = ['default', 'ROOTCA'];

/** A secret that Envoy gets from the agent's SDS server. */
function sdsSecret(name: string): JsonObject {
  return {
    name,
    sds_config: {
      api_config_source: {
        api_type: 'GRPC',
        grpc_services: [{ envoy_grpc: { cluster_name: 'sds-grpc' } }],
        set_node_on_first_message_only: true,
        transport_api_version: 'V3',
      },
      ...(workloadSecrets.includes(name) ? { initial_fetch_timeout: '0s' } : {}),
      resource_api_version: 'V3',
    },
  };
}

/**
 * TLS of a cluster that Envoy reports to; undefined: plaintext (istio/istio `pkg/bootstrap/option/convert.go`).
 * Certificates are named by their paths and served by the agent's SDS.
 */
export function tlsTransportSocket(
  tls: ClientTlsSettings | undefined,
  options: {
    /** SNI of ISTIO_MUTUAL when none is configured. */
    readonly defaultSni: string;
    readonly isHttp2: boolean;
  },
): JsonObject | undefined {
  const mode = tls?.mode ?? 'DISABLE';
  if (tls === undefined || mode === 'DISABLE') return undefined;
  const isMesh = mode === 'ISTIO_MUTUAL';
  const alpn = isMesh ? ['istio', 'h2'] : ['h2'];
  const sans = (tls.subjectAltNames ?? []).map((exact) => ({ exact }));
  const sni = tls.sni || (isMesh ? options.defaultSni : '');
  return {
    name: 'envoy.transport_sockets.tls',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext',
      common_tls_context: {
        ...certificates(tls, mode),
        combined_validation_context: {
          default_validation_context: sans.length === 0 ? {} : { match_subject_alt_names: sans },
          validation_context_sds_secret_config: sdsSecret(
            isMesh ? 'ROOTCA' : `file-root:${tls.caCertificates ?? ''}`,
          ),
        },
        ...(options.isHttp2 ? { alpn_protocols: alpn } : {}),
      },
      ...(sni === '' ? {} : { sni }),
    },
  };
}

function certificates(
  tls: ClientTlsSettings,
  mode: Exclude<ClientTlsSettings['mode'], 'DISABLE' | undefined>,
): JsonObject {
  switch (mode) {
    case 'SIMPLE':
      return {};
    case 'MUTUAL':
      // Without both paths there is nothing to ask for: the server may do without a certificate.
      return tls.clientCertificate && tls.privateKey
        ? {
            tls_certificate_sds_secret_configs: [
              sdsSecret(`file-cert:${tls.clientCertificate}~${tls.privateKey}`),
            ],
          }
        : {};
    case 'ISTIO_MUTUAL':
      return { tls_certificate_sds_secret_configs: [sdsSecret('default')] };
    default:
      return mode satisfies never;
  }
}

/** Mutual TLS of the metrics listeners, with the workload's own certificate. */
export function workloadTlsListenerSocket(): JsonObject {
  return {
    name: 'envoy.transport_sockets.tls',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext',
      require_client_certificate: true,
      common_tls_context: {
        tls_certificate_sds_secret_configs: [withDefaultTimeout(sdsSecret('default'))],
        combined_validation_context: {
          default_validation_context: {},
          validation_context_sds_secret_config: withDefaultTimeout(sdsSecret('ROOTCA')),
        },
      },
    },
  };
}

/** Listeners of the bootstrap do not wait for ever: Envoy's default of 15 s applies, as in the stock template. */
function withDefaultTimeout(secret: JsonObject): JsonObject {
  const { initial_fetch_timeout: _, ...sdsConfig } = secret['sds_config'] as JsonObject;
  return { ...secret, sds_config: sdsConfig };
}
