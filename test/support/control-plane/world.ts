/**
 * What a control plane serves: resources by type and name, as a value that is never changed in place.
 */
import type { Resource } from './discovery-messages.ts';
import { ProtoWriter } from './proto-writer.ts';
import { inPushOrder, isWildcardType, typeUrlOf, typeUrls, type XdsType } from './type-urls.ts';

type ResourcesByName = ReadonlyMap<string, Resource>;

/** Which resources of a type an answer is about. */
export type Selection =
  /** Everything the client watches: all of a wildcard type, the watched names of another. */
  | { readonly kind: 'watched' }
  /** Only these names; a wildcard type is sent whole all the same. */
  | { readonly kind: 'only'; readonly names: ReadonlySet<string> };

/** Resources keep the order in which their names were first added: that is their order in a response. */
export class World {
  static readonly empty = new World(new Map());
  readonly #types: ReadonlyMap<string, ResourcesByName>;

  private constructor(types: ReadonlyMap<string, ResourcesByName>) {
    this.#types = types;
  }

  static of(...resources: readonly Resource[]): World {
    return World.empty.with(...resources);
  }

  /** Adds resources, or replaces those of the same type and name at their place. */
  with(...resources: readonly Resource[]): World {
    const types = new Map(this.#types);
    for (const resource of resources) {
      types.set(
        resource.typeUrl,
        new Map(types.get(resource.typeUrl)).set(resource.name, Object.freeze({ ...resource })),
      );
    }
    return new World(types);
  }

  /** Takes resources out; names that are not there are no error. The type stays known, and is then answered empty. */
  without(type: XdsType | (string & {}), ...names: readonly string[]): World {
    const typeUrl = typeUrlOf(type);
    const byName = this.#types.get(typeUrl);
    if (byName === undefined) return this;
    const rest = new Map([...byName].filter(([name]) => !names.includes(name)));
    return new World(new Map(this.#types).set(typeUrl, rest));
  }

  get(type: XdsType | (string & {}), name: string): Resource | undefined {
    return this.#types.get(typeUrlOf(type))?.get(name);
  }

  list(type: XdsType | (string & {})): readonly Resource[] {
    return [...(this.#types.get(typeUrlOf(type))?.values() ?? [])];
  }

  /** True when the type has or ever had a resource in this world. */
  knows(type: XdsType | (string & {})): boolean {
    return this.#types.has(typeUrlOf(type));
  }

  /** The types whose resources differ, by name, bytes or order, in push order. */
  changedTypes(next: World): string[] {
    const urls = new Set([...this.#types.keys(), ...next.#types.keys()]);
    return inPushOrder([...urls].filter((url) => !isSameList(this.list(url), next.list(url))));
  }
}

/**
 * What istiod answers for a type, or undefined where it stays silent: ECDS, CDS and LDS are always answered, EDS and
 * RDS whenever a name is asked for (an unknown one gets an empty resource), other types only when the world knows them.
 * Source: istio/istio `pilot/pkg/xds/{ecds,cds,lds,eds}.go`, `pilot/pkg/networking/core/httproute.go`.
 */
export function selectResources(
  world: World,
  typeUrl: string,
  watchedNames: ReadonlySet<string>,
  selection: Selection,
): readonly Resource[] | undefined {
  if (isWildcardType(typeUrl)) {
    const isServed = typeUrl === typeUrls.cds || typeUrl === typeUrls.lds || world.knows(typeUrl);
    return isServed ? world.list(typeUrl) : undefined;
  }
  const names = selection.kind === 'only' ? selection.names : watchedNames;
  const found = world.list(typeUrl).filter((resource) => names.has(resource.name));
  const missing = [...names].filter((name) => world.get(typeUrl, name) === undefined);
  switch (typeUrl) {
    case typeUrls.ecds:
      return found;
    case typeUrls.eds:
      return noneWhenEmpty([...found, ...missing.map(emptyEndpoints)]);
    case typeUrls.rds:
      return noneWhenEmpty([...found, ...missing.map(emptyRoutes)]);
    default:
      return noneWhenEmpty(found);
  }
}

function noneWhenEmpty(resources: readonly Resource[]): readonly Resource[] | undefined {
  return resources.length === 0 ? undefined : resources;
}

function isSameList(a: readonly Resource[], b: readonly Resource[]): boolean {
  return (
    a.length === b.length &&
    a.every((resource, index) => {
      const other = b[index];
      return other !== undefined && resource.name === other.name && resource.value.equals(other.value);
    })
  );
}

/** What istiod sends for a cluster it does not know: a load assignment with nothing but the name. */
function emptyEndpoints(cluster: string): Resource {
  return { name: cluster, typeUrl: typeUrls.eds, value: new ProtoWriter().text(1, cluster).finish() };
}

/** What istiod sends for a route name it does not know: no virtual hosts, `validate_clusters: false`. */
function emptyRoutes(name: string): Resource {
  const value = new ProtoWriter().text(1, name).message(7, new ProtoWriter()).finish();
  return { name, typeUrl: typeUrls.rds, value };
}
