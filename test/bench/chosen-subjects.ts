import type { BenchOptions } from './bench-options.ts';
import { ferrySubject, findFerrySubject, type Subject } from './subject.ts';

/** The subjects of a run, and what is worth a warning about them. Throws Error for one that is not there. */
export function chooseSubjects(options: BenchOptions): {
  readonly subjects: readonly Subject[];
  readonly warnings: string[];
} {
  const warnings: string[] = [];
  const subjects: Subject[] = [];
  const isWanted = (name: string): boolean => options.subjectNames?.includes(name) ?? true;
  if (isWanted('direct')) subjects.push({ name: 'direct', kind: 'direct' });
  else warnings.push('Without the subject direct there is no added latency.');
  if (isWanted('grpc-js')) subjects.push({ name: 'grpc-js', kind: 'grpc-js' });
  if (isWanted('ferry')) {
    const ferry = options.subjectNames === undefined ? findFerrySubject() : ferrySubject();
    if (ferry === undefined)
      warnings.push('ferry is left out: there is neither a bundle nor agent/cli/main.ts.');
    else subjects.push(ferry);
    if (ferry?.program.isStale === true) {
      warnings.push('dist/ferry-agent.cjs is older than its sources: run npm run build.');
    }
    if (ferry?.program.kind === 'source') {
      warnings.push(
        'ferry runs from its source: users run the bundle (npm run build), which starts sooner and is smaller.',
      );
    }
  }
  for (const peer of options.peers) subjects.push({ ...peer, kind: 'peer' });
  if (options.isQuick) warnings.push('A quick run shows that all works; its figures are not to be quoted.');
  return { subjects, warnings };
}
