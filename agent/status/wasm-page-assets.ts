import { createHash } from 'node:crypto';

/** The look of the page: system fonts, one column of cards, colours that follow the reader's scheme. */
export const pageStyle = `
:root {
  color-scheme: light dark;
  --ground: #f4f5f7; --card: #fff; --ink: #1b1f24; --muted: #59636e; --line: #d9dee4;
  --good: #1a7f37; --bad: #c21c2c; --busy: #8a5a00; --idle: #59636e;
  --bad-ground: #ffebe9; --warn-ground: #fff4d6; --mono: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #0d1117; --card: #161b22; --ink: #e6edf3; --muted: #9198a1; --line: #30363d;
    --good: #3fb950; --bad: #ff7b72; --busy: #e3b341; --idle: #9198a1;
    --bad-ground: #3a1618; --warn-ground: #362a0d;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere;
}
main, .stale { max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.35rem; margin: 0 0 .25rem; }
h2 { font-size: 1.05rem; margin: 0; unicode-bidi: isolate; }
p { margin: .4rem 0; }
a { color: inherit; }
.counts { font-weight: 600; }
.alarm, .why { border-radius: .4rem; padding: .5rem .75rem; }
.alarm { background: var(--bad-ground); border: 1px solid var(--bad); font-weight: 600; }
.why { background: var(--bad-ground); font: .85rem/1.45 var(--mono); white-space: pre-wrap; unicode-bidi: isolate; }
.why.past { background: var(--warn-ground); }
.muted, dt, .when, summary, .again { color: var(--muted); }
.small { font-size: .85rem; }
.plugin {
  background: var(--card); border: 1px solid var(--line); border-left: .3rem solid var(--idle);
  border-radius: .5rem; padding: .8rem 1rem; margin: .8rem 0;
}
.plugin.active { border-left-color: var(--good); }
.plugin.failed { border-left-color: var(--bad); }
.plugin.preparing, .plugin.offered { border-left-color: var(--busy); }
.plugin header { display: flex; flex-wrap: wrap; gap: .35rem .6rem; align-items: center; }
.badge {
  font-size: .78rem; font-weight: 600; border: 1px solid currentColor; border-radius: 1rem; padding: 0 .55rem;
  color: var(--idle); white-space: nowrap;
}
.badge.active, .badge.newest { color: var(--good); }
.badge.failed, .badge.fallback { color: var(--bad); }
.badge.preparing, .badge.offered, .badge.last-known-good, .badge.earlier { color: var(--busy); }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .15rem .8rem; margin: .5rem 0; font-size: .88rem; }
dt { white-space: nowrap; }
dd { margin: 0; unicode-bidi: isolate; }
code { font: .92em var(--mono); }
summary { cursor: pointer; font-size: .88rem; padding: .25rem 0; }
ol { list-style: none; margin: .2rem 0 0; padding: 0; font-size: .88rem; }
li { border-top: 1px solid var(--line); padding: .4rem 0; display: grid; grid-template-columns: 11.5rem minmax(0, 1fr); gap: 0 .8rem; }
.when { font-variant-numeric: tabular-nums; }
.reason { display: block; color: var(--muted); unicode-bidi: isolate; }
li.failed .event, li.rejected .event, li.refused .event, li.fallback .event { color: var(--bad); }
li.accepted .event { color: var(--good); }
.stale { color: var(--bad); font-weight: 600; padding-bottom: 0; }
.stale:empty { display: none; }
@media (max-width: 36rem) {
  body { font-size: 16px; }
  main { padding: .75rem; }
  .plugin { padding: .7rem .8rem; }
  li { grid-template-columns: minmax(0, 1fr); }
}
`;

/**
 * Takes the page anew every few seconds, but not while it is hidden or text on it is selected. What the reader has
 * opened stays open; when the agent does not answer, the last page stays, with a line that says so.
 */
export const pageScript = `
'use strict';
const everyMs = 5000;
let lastAnswer = new Date();
const stale = document.querySelector('.stale');
async function refresh() {
  const selection = getSelection();
  if (document.hidden || (selection && !selection.isCollapsed)) return;
  try {
    const answer = await fetch(location.href, { headers: { accept: 'text/html' }, cache: 'no-store' });
    if (!answer.ok) throw new Error('status ' + answer.status);
    const next = new DOMParser().parseFromString(await answer.text(), 'text/html');
    const main = next.querySelector('main');
    if (!main) throw new Error('not this page');
    for (const details of document.querySelectorAll('details[id]')) {
      const twin = next.getElementById(details.id);
      if (twin) twin.open = details.open;
    }
    const focused = document.activeElement && document.activeElement.closest('details');
    document.querySelector('main').replaceWith(document.adoptNode(main));
    if (focused) {
      const twin = document.getElementById(focused.id);
      if (twin) twin.querySelector('summary').focus({ preventScroll: true });
    }
    document.title = next.title;
    lastAnswer = new Date();
    stale.textContent = '';
  } catch (error) {
    stale.textContent = 'The agent has not answered since ' + lastAnswer.toLocaleTimeString() +
      ' (' + error.message + '). This is what it said last.';
  }
}
(async () => {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, everyMs));
    await refresh();
  }
})();
`;

function hashSource(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}

/** The page may use its own style and script, ask its own server again, and nothing else. */
export const pagePolicy = [
  "default-src 'none'",
  `style-src ${hashSource(pageStyle)}`,
  `script-src ${hashSource(pageScript)}`,
  "connect-src 'self'",
  // The empty icon: without one a browser asks the server for /favicon.ico.
  'img-src data:',
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');
