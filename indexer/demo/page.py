"""Templates of the report: HTML for `str.format`, and the style sheet."""

MATCH = """<figure class="match {tone}"><div class=frame>{picture}</div>
<figcaption><b>{rank}</b><div>{name}<br><small>{where} · cost {cost}{confidence}</small></div></figcaption></figure>
"""

EXAMPLE = """<section class="example {verdict}">
<header><span class="tag {tag}">{direction}</span><h3>{name}</h3><span class=part>{part}</span>
<span class=verdict>{rank}</span></header>
<h4>Query</h4>
<div class=frame>{query}</div>
<h4>Best {found}</h4>
<div class="matches {found}">{matches}</div>
<h4>Cost matrix and path</h4>
<div class=frame>{matrix}</div>
<p class=axes>down: {down} · across: {across} · dark: alike · line: the cheapest path</p>
</section>
"""

PAGE = """<!doctype html>
<html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>scorefind demo</title><style>{style}</style>
<main>
<h1>scorefind <span>demo</span></h1>
<p class=lead>{pieces} pieces, each as a scan-like PDF ({pages} pages in all) and as a synthesised recording
({minutes} minutes in all), are in one collection of {snippets} snippets. Then every recording was searched among
the scores, and every score among the recordings: as a whole, and as a random fragment of about 20 seconds.
Only sound and pixels are compared.</p>
<table><thead><tr><th>Direction<th>Query<th>Method<th class=n>n<th class=n>R@1<th class=n>R@10<th class=n>MRR
<th><th class=n>Median rank<th class=n>Search</tr></thead><tbody>
{rows}
</tbody></table>
<p class=note><b>A2S</b>: a recording finds a score. <b>S2A</b>: a score finds a recording. <b>vote</b>: the neighbours
of each snippet vote for documents. <b>refine</b>: documents are aligned with the query. R@k: share of queries
whose piece is among the first k. MRR: mean reciprocal rank, with its 95 % interval. Search: mean time of a query,
without embedding. Scans and recordings are made from the same encodings of the music, so this is easier than real
scans and recordings.
Network: {network}.</p>
<ul class=stages>{stages}<li><b>{total} s</b> in all</li></ul>
<h2>Some queries</h2>
{examples}
</main></html>
"""

STYLE = """
:root {
  --ink: #16202b; --soft: #5d6b78; --line: #dfe3e6; --paper: #fff; --ground: #f5f4f0;
  --right: #12805c; --wrong: #c2570c; --blue: #1f5f8b; --path: #ff4d2e;
  --serif: Georgia, "Times New Roman", serif;
}
* { box-sizing: border-box }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 1000px; margin: 0 auto; padding: 48px 24px 96px }
h1 { font: 600 42px/1.1 var(--serif); margin: 0 0 16px }
h1 span { color: var(--soft); font-weight: 400 }
h2 { font: 600 26px/1.2 var(--serif); margin: 56px 0 16px }
h3 { font: 600 18px/1.3 var(--serif); margin: 0 }
h3 small { font: 400 13px system-ui, sans-serif; color: var(--soft) }
h4 {
  font-size: 12px; font-weight: 600; letter-spacing: .07em; text-transform: uppercase; color: var(--soft);
  margin: 20px 0 6px;
}
.lead { font-size: 18px; max-width: 46em; margin: 0 0 28px }
.note { font-size: 14px; color: var(--soft); max-width: 62em }
table {
  width: 100%; border-collapse: separate; border-spacing: 0; background: var(--paper);
  border: 1px solid var(--line); border-radius: 6px; font-size: 15px;
}
th { font-size: 12px; font-weight: 600; text-align: left; color: var(--soft) }
th { padding: 10px 12px; border-bottom: 1px solid var(--line); white-space: nowrap }
td { padding: 7px 12px; white-space: nowrap }
tr.refine td { border-bottom: 1px solid var(--line) }
tr:last-child td { border: 0 }
th.n, .n { text-align: right; font-variant-numeric: tabular-nums }
td small, tr.vote td { color: var(--soft) }
.bar { width: 16% }
.bar i { display: block; height: 9px; border-radius: 5px; background: var(--blue) }
tr.vote .bar i { background: #b9cbd8 }
.tag { font-size: 12px; font-weight: 700; color: #fff; background: var(--blue); border-radius: 4px; padding: 2px 7px }
.tag.s2a { background: #6d5394 }
.stages { list-style: none; display: flex; flex-wrap: wrap; gap: 6px 22px; padding: 0; font-size: 14px }
.stages { color: var(--soft) }
.stages b { color: var(--ink) }
.example {
  background: var(--paper); border: 1px solid var(--line); border-left: 5px solid var(--right); border-radius: 8px;
  padding: 20px 24px 16px; margin: 0 0 24px;
}
.example.miss { border-left-color: var(--wrong) }
.example header { display: flex; align-items: baseline; gap: 12px; flex-wrap: wrap }
.part { color: var(--soft); font-size: 14px }
.verdict { font-size: 14px; font-weight: 600; color: var(--right); margin-left: auto }
.miss .verdict { color: var(--wrong) }
.frame { border: 1px solid var(--line); border-radius: 4px; overflow: hidden; background: #fff; line-height: 0 }
svg { width: 100%; height: auto; display: block }
.matches { display: grid; grid-template-columns: repeat(3, 1fr); gap: 16px; align-items: start }
.match { margin: 0 }
.match.right .frame { outline: 2px solid var(--right) }
figcaption { display: flex; gap: 9px; font-size: 13px; line-height: 1.35; padding-top: 7px }
figcaption > b {
  flex: none; width: 22px; height: 22px; border-radius: 50%; background: var(--wrong); color: #fff;
  text-align: center; line-height: 22px; font-size: 12px;
}
.right figcaption > b { background: var(--right) }
figcaption small { color: var(--soft) }
.box { fill: none; stroke-width: 2.5 }
.box.right { stroke: var(--right); fill: #12805c14 }
.box.wrong { stroke: var(--wrong); fill: #c2570c14 }
.path, .jump { fill: none; stroke: var(--path); stroke-width: 2.2; stroke-linejoin: round }
.jump { stroke-width: 1.2; stroke-dasharray: 3 4 }
.axes { font-size: 12.5px; color: var(--soft); margin: 5px 0 0 }
@media (max-width: 700px) {
  main { padding: 24px 12px }
  .matches { grid-template-columns: 1fr }
  .bar, th:nth-child(8) { display: none }
}
"""
