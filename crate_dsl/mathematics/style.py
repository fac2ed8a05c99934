"""The style sheet of an explanation's HTML page: light and dark, on screens and on paper."""

from __future__ import annotations

STYLE = """
:root { --ink: #1d2433; --soft: #5a6478; --paper: #ffffff; --panel: #f5f7fa; --line: #dde2ea; --link: #1f5fbf;
  --exact: #17693a; --exact-back: #e2f4e8; --approximation: #94480a; --approximation-back: #fdeedd;
  --choice: #5b3fa0; --choice-back: #eee9fa; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ef; --soft: #9aa5b8; --paper: #14181f; --panel: #1c222c;
  --line: #323b49; --link: #83b1f5; --exact: #7fd6a0; --exact-back: #16321f; --approximation: #f3b06a;
  --approximation-back: #3a2610; --choice: #bfa8f5; --choice-back: #2a2145; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 60rem; color: var(--ink); background: var(--paper);
  font: 16px/1.55 Charter, "Bitstream Charter", Cambria, Georgia, serif; }
h1, h2, h3, h4, nav, .head, table, dl, .note { font-family: system-ui, "Segoe UI", Roboto, Helvetica, sans-serif; }
h1 { margin: 0; font-size: 2rem; } h2 { margin: 3rem 0 .5rem; border-bottom: 2px solid var(--line); }
h3 { margin: 2.5rem 0 .25rem; } h4 { margin: 1.25rem 0 .25rem; font-size: .95rem; color: var(--soft); }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
code, pre { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: .86em; }
.lead { margin: .25rem 0 1.5rem; font-size: 1.1rem; color: var(--soft); }
.note { color: var(--soft); font-size: .9rem; }
nav { padding: .75rem 1.25rem; background: var(--panel); border: 1px solid var(--line); border-radius: 8px;
  font-size: .92rem; } nav ul { margin: .2rem 0; padding-left: 1.2rem; } nav > ul { padding-left: 0; list-style: none; }
ol.record { list-style: none; margin: 1rem 0; padding: 0; }
ol.record > li { margin: .7rem 0; padding: .6rem 1rem; background: var(--panel); border-radius: 6px;
  border-left: 4px solid var(--line); }
li.exact { border-left-color: var(--exact) !important; } li.choice { border-left-color: var(--choice) !important; }
li.approximation { border-left-color: var(--approximation) !important; }
.head { display: flex; gap: .7rem; align-items: baseline; font-size: .92rem; } .rule { font-weight: 600; }
.place { margin-left: auto; font-variant-numeric: tabular-nums; }
.tag { padding: .05rem .55rem; border-radius: 1rem; font-size: .78rem; font-weight: 600; }
.tag.exact { color: var(--exact); background: var(--exact-back); }
.tag.choice { color: var(--choice); background: var(--choice-back); }
.tag.approximation { color: var(--approximation); background: var(--approximation-back); }
.why { margin: .25rem 0 0; font-size: .93rem; color: var(--soft); }
.formula { margin: .35rem 0; padding: .25rem 0; overflow-x: auto; overflow-y: hidden; }
.formula.where, .formula.from { display: flex; gap: .8rem; align-items: baseline; }
.formula.where::before { content: "where"; color: var(--soft); }
.formula.from::before { content: "from"; color: var(--soft); }
math { font-size: 1.08em; } math[display=block] { width: max-content; margin: 0; }
mtd[columnalign=left] { text-align: left; } mtd[columnalign=right] { text-align: right; }
[mathvariant=bold] { font-weight: bold; }
.operator { padding: .6rem 1rem; border: 2px solid var(--line); border-radius: 6px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .6rem 0 1.2rem; font-size: .9rem; width: 100%; }
th, td { padding: .3rem .7rem .3rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; } table.facts th { white-space: nowrap; width: 1%; padding-right: 1.5rem; }
dl.letters { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; font-size: .9rem;
  margin: .4rem 0; }
dl.letters dt, dl.letters dd { margin: 0; }
pre.source { counter-reset: line; padding: .8rem 0; background: var(--panel); border: 1px solid var(--line);
  border-radius: 8px; overflow-x: auto; line-height: 1.5; }
pre.source span { display: block; min-height: 1.5em; padding-right: 1rem; width: max-content; min-width: 100%; }
pre.source span::before { counter-increment: line; content: counter(line); display: inline-block; width: 3.2em;
  margin-right: 1.2em; text-align: right; color: var(--soft); user-select: none; }
pre.source span:target { background: var(--choice-back); }
@media print { body { max-width: none; padding: 0; font-size: 10.5pt; } nav { display: none; }
  ol.record > li, .operator, table { break-inside: avoid; } .formula { overflow: visible; } }
"""
