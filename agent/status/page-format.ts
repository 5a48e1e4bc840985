import { parseMediaType } from './media-type.ts';

/** What the merged page can be. */
export type PageFormat = 'text-0.0.4' | 'openmetrics-0.0.1' | 'openmetrics-1.0.0';

/** What an application has sent. */
export interface ApplicationFormat {
  /** What the page is when this is its only format. */
  readonly page: PageFormat;
  /** How its lines are to be read: also OpenMetrics of a version that the page cannot have. */
  readonly grammar: 'text' | 'openmetrics';
}

/** Source: istio/istio `pilot/cmd/pilot-agent/status/server.go`, negotiateMetricsFormat. */
export function formatOfContentType(contentType: string | undefined): ApplicationFormat {
  const media = parseMediaType(contentType ?? '');
  if (media?.type !== 'application/openmetrics-text') return { page: 'text-0.0.4', grammar: 'text' };
  switch (media.parameters.get('version') ?? '') {
    case '1.0.0':
      return { page: 'openmetrics-1.0.0', grammar: 'openmetrics' };
    case '0.0.1':
    case '':
      return { page: 'openmetrics-0.0.1', grammar: 'openmetrics' };
    default:
      return { page: 'text-0.0.4', grammar: 'openmetrics' };
  }
}

/** The format of the page for the applications that have answered, in any order: text unless all agree. */
export function pageFormatOf(applications: readonly ApplicationFormat[]): PageFormat {
  const pages = new Set(applications.map(({ page }) => page));
  const [only] = pages;
  return pages.size === 1 && only !== undefined ? only : 'text-0.0.4';
}

/** The `Content-Type` of the answer. */
export function contentTypeOf(format: PageFormat): string {
  switch (format) {
    case 'text-0.0.4':
      return 'text/plain; version=0.0.4; charset=utf-8';
    case 'openmetrics-0.0.1':
      return 'application/openmetrics-text; version=0.0.1; charset=utf-8';
    case 'openmetrics-1.0.0':
      return 'application/openmetrics-text; version=1.0.0; charset=utf-8';
    default:
      return format satisfies never;
  }
}
