import type { Command } from 'commander';
import { CommandError } from './command-error.ts';

/** One thing that can be typed, and what it is. */
interface CompletionWord {
  readonly text: string;
  readonly meaning: string;
}

/** What can follow one chain of commands. */
export interface CompletionStage {
  /** Names of the commands typed so far, separated by a space; empty for none. */
  readonly path: string;
  /** Commands, and known values of the argument. */
  readonly words: readonly CompletionWord[];
  /** With their dashes. */
  readonly flags: readonly CompletionWord[];
}

/** Both names the program is installed under. */
const programNames = ['pilot-agent', 'ferry-agent'];

/** Values of arguments, by command. */
const argumentValues: Readonly<Record<string, readonly string[]>> = {
  proxy: ['sidecar', 'router', 'waypoint'],
  request: ['GET', 'POST'],
  completion: ['bash', 'zsh', 'fish'],
};

/** What the command library does not list. */
const otherCommands: readonly CompletionWord[] = [
  { text: 'help', meaning: 'display help for command' },
  { text: 'istio-iptables', meaning: 'program redirection rules, by the stock binary' },
];

/** Every chain of commands of the program, its root first. */
export function commandTree(program: Command): readonly CompletionStage[] {
  const rootFlags = flagsOf(program);
  const walk = (command: Command, path: readonly string[]): readonly CompletionStage[] => [
    {
      path: path.join(' '),
      words: [
        ...command.commands.map((child) => ({ text: child.name(), meaning: child.description() })),
        ...(argumentValues[path.join(' ')] ?? []).map((text) => ({ text, meaning: '' })),
        ...(path.length === 0 ? otherCommands : []),
      ],
      flags: path.length === 0 ? rootFlags : [...flagsOf(command), ...rootFlags],
    },
    ...command.commands.flatMap((child) => walk(child, [...path, child.name()])),
  ];
  return walk(program, []);
}

function flagsOf(command: Command): readonly CompletionWord[] {
  return command.options.flatMap(({ long, short, description }) =>
    [long, short].flatMap((text) => (text ? [{ text, meaning: description }] : [])),
  );
}

/**
 * `completion`: a script that completes commands, flags and known values without starting the program. Throws
 * CommandError for a shell that has none.
 */
export function completionScript(
  shell: string,
  stages: readonly CompletionStage[],
  options: { readonly hasDescriptions: boolean },
): string {
  const shown = options.hasDescriptions ? stages : stages.map(withoutMeanings);
  switch (shell) {
    case 'bash':
      return bashScript(shown);
    case 'zsh':
      return zshScript(shown);
    case 'fish':
      return fishScript(shown);
    default:
      throw new CommandError([
        `there is no completion for the shell ${JSON.stringify(shell)}: use bash, zsh or fish`,
      ]);
  }
}

function withoutMeanings(stage: CompletionStage): CompletionStage {
  const strip = (words: readonly CompletionWord[]) => words.map(({ text }) => ({ text, meaning: '' }));
  return { path: stage.path, words: strip(stage.words), flags: strip(stage.flags) };
}

/** In single quotes, as all three shells read them, but for the escape of a quote itself. */
function quote(text: string, escapedQuote = String.raw`'\''`): string {
  return `'${text.replaceAll("'", escapedQuote)}'`;
}

function texts(words: readonly CompletionWord[]): string {
  return quote(words.map(({ text }) => text).join(' '));
}

/** The chains as patterns of a `case`, so that a flag's value is not taken for a command. */
function chainPatterns(stages: readonly CompletionStage[]): string {
  return stages.flatMap(({ path }) => (path === '' ? [] : [quote(path)])).join(' | ');
}

function bashScript(stages: readonly CompletionStage[]): string {
  const cases = stages.map(
    ({ path, words, flags }) => `    ${quote(path)}) words=${texts(words)} flags=${texts(flags)} ;;`,
  );
  return `# Completion of ${programNames.join(' and ')} for bash: source it, or put it into the completions folder.
__ferry_agent_complete() {
  local current="\${COMP_WORDS[COMP_CWORD]}" chain='' next i words flags
  for ((i = 1; i < COMP_CWORD; i++)); do
    next="\${chain:+$chain }\${COMP_WORDS[i]}"
    case "$next" in
      ${chainPatterns(stages)}) chain="$next" ;;
    esac
  done
  case "$chain" in
${cases.join('\n')}
  esac
  case "$current" in
    -*) COMPREPLY=($(compgen -W "$flags" -- "$current")) ;;
    *) COMPREPLY=($(compgen -W "$words" -- "$current")) ;;
  esac
}
complete -o default -F __ferry_agent_complete ${programNames.join(' ')}
`;
}

function zshScript(stages: readonly CompletionStage[]): string {
  const list = (words: readonly CompletionWord[]) =>
    words
      .map(({ text, meaning }) => {
        const label = text.replaceAll(':', String.raw`\:`);
        return quote(meaning === '' ? label : `${label}:${meaning}`);
      })
      .join(' ');
  const cases = stages.map(
    ({ path, words, flags }) => `    ${quote(path)}) choices=(${list(words)}) options=(${list(flags)}) ;;`,
  );
  return `#compdef ${programNames.join(' ')}
# Completion of ${programNames.join(' and ')} for zsh: put it into a folder of $fpath as _pilot-agent, or source it.
__ferry_agent_complete() {
  local chain='' next i
  local -a choices options
  for ((i = 2; i < CURRENT; i++)); do
    next="\${chain:+$chain }\${words[i]}"
    case "$next" in
      ${chainPatterns(stages)}) chain="$next" ;;
    esac
  done
  case "$chain" in
${cases.join('\n')}
  esac
  if [[ "\${words[CURRENT]}" == -* ]]; then
    _describe -o flag options
  elif (( \${#choices} )); then
    _describe command choices
  else
    _files
  fi
}
compdef __ferry_agent_complete ${programNames.join(' ')}
`;
}

function fishScript(stages: readonly CompletionStage[]): string {
  const fishQuote = (text: string) => quote(text.replaceAll('\\', '\\\\'), String.raw`\'`);
  const chains = stages.flatMap(({ path }) => (path === '' ? [] : [fishQuote(path)])).join(' ');
  const described = ({ meaning }: CompletionWord) => (meaning === '' ? '' : ` -d ${fishQuote(meaning)}`);
  const lines = stages.flatMap(({ path, words, flags }) => {
    const condition = `-n ${fishQuote(`__ferry_agent_at ${fishQuote(path)}`)}`;
    return programNames.flatMap((program) => [
      ...words.map(
        (word) => `complete -c ${program} ${condition} -f -a ${fishQuote(word.text)}${described(word)}`,
      ),
      ...flags.map((flag) => {
        const name = flag.text.startsWith('--') ? `-l ${flag.text.slice(2)}` : `-s ${flag.text.slice(1)}`;
        return `complete -c ${program} ${condition} ${name}${described(flag)}`;
      }),
    ]);
  });
  return `# Completion of ${programNames.join(' and ')} for fish: put it into ~/.config/fish/completions/pilot-agent.fish, or source it.
function __ferry_agent_at
    set -l chain
    for word in (commandline -opc)[2..-1]
        set -l next (string join ' ' $chain $word)
        if contains -- $next ${chains}
            set chain $chain $word
        end
    end
    test "$chain" = "$argv[1]"
end
${lines.join('\n')}
`;
}
