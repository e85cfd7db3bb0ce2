# SPDX-License-Identifier: MIT
"""BUILD/bench/report.html: the table, and a plot for each figure that has peers. One file that needs no network."""
import html
import math

STYLE = '''
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; color: #1a1a1a; background: #fff }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .3em .6em; border-bottom: 1px solid #ddd; vertical-align: top }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
.met { color: #06622b } .missed, .failed { color: #a11212 } .skipped { color: #666 }
figure { margin: 2em 0 } figcaption { font-weight: 600 }
svg { width: 100%; height: auto } svg text { font: 13px system-ui, sans-serif; fill: #1a1a1a }
.ours { fill: #1d5fa8 } .peer { fill: #a9b4c0 } .goal { stroke: #a11212; stroke-dasharray: 5 4 } .spread { stroke: #1a1a1a }
'''
LABEL, WIDTH, BAR, GAP = 210, 900, 20, 8


def number(value):
  if value is None:
    return ''
  return f'{value:,.0f}' if value >= 1000 else f'{value:.3g}'


def goal_text(goal):
  if goal is None:
    return ''
  return f'≥ {number(goal[1])}' if isinstance(goal, (tuple, list)) else f'≤ {number(goal)}'


def table(figures):
  out = ['<table><tr><th>row<th>work<th>value<th>goal<th>moonshot<th><th>spread (n)']
  for entry in figures:
    spread = entry['spread']
    out.append(
        f'<tr><td>{entry["row"]}<td>{html.escape(entry["what"])}'
        f'<td class="number">{number(entry["value"])} {html.escape(entry["unit"])}<td class="number">{goal_text(entry["goal"])}'
        f'<td class="number">{goal_text(entry["moonshot"])}<td class="{entry["status"]}">{entry["status"]}'
        f'<td>{f"{number(spread[0])} to {number(spread[1])} ({spread[2]})" if spread else html.escape(entry.get("why", ""))}')
  return '\n'.join(out + ['</table>'])


def plot(entry):
  """Bars on a logarithmic scale, which is what ratios of hundreds need: a bar's length is its number of powers of ten."""
  bars = [('this library', entry['value'])] + sorted(entry['peers'].items(), key=lambda bar: bar[1])
  shown = [value for _, value in bars if value > 0]
  goal = entry['goal'] if isinstance(entry['goal'], (int, float)) else None
  ends = shown + ([goal] if goal else [])
  low = math.floor(math.log10(min(ends)) - 0.3)
  high = math.log10(max(ends)) + 0.05

  def x(value):
    return LABEL + (WIDTH - LABEL - 110) * max(0, math.log10(max(value, 10 ** low)) - low) / (high - low)

  height = len(bars) * (BAR + GAP) + GAP
  title = f'Row {entry["row"]}: {entry["what"]}, {entry["unit"] or "each"}'
  parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{html.escape(title)}">']
  for index, (name, value) in enumerate(bars):
    y = GAP + index * (BAR + GAP)
    end = x(value)
    parts.append(f'<text x="{LABEL - 8}" y="{y + BAR - 5}" text-anchor="end">{html.escape(name)}</text>'
                 f'<rect class="{"peer" if index else "ours"}" x="{LABEL}" y="{y}" width="{max(1, end - LABEL):.1f}" '
                 f'height="{BAR}"/><text x="{end + 8:.1f}" y="{y + BAR - 5}">{number(value)}</text>')
  if entry['spread']:
    y = GAP + BAR / 2
    parts.append(f'<line class="spread" x1="{x(entry["spread"][0]):.1f}" x2="{x(entry["spread"][1]):.1f}" y1="{y}" y2="{y}"/>')
  if goal:
    parts.append(f'<line class="goal" x1="{x(goal):.1f}" x2="{x(goal):.1f}" y1="0" y2="{height}"/>')
  parts.append('</svg>')
  return f'<figure><figcaption>{html.escape(title)}</figcaption>\n{"".join(parts)}\n</figure>'


def page(results):
  here, figures = results['machine'], results['figures']
  skipped = ', '.join(results['skipped_peers'])
  return f'''<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>OpenKMCL bench</title><style>{STYLE}</style></head><body>
<h1>OpenKMCL next to its peers</h1>
<p>{html.escape(here["cpu"])}, {here["cpus"]} CPUs, Linux {html.escape(here["kernel"])}, load {here["load_before"]:.1f} before and
{here["load_after"]:.1f} after. Medians of up to {results["rounds"]} rounds or more in which programs take turns; x is how many times as
long the peer takes, unless the line says "times" or "part". Scales are logarithmic; the red line is the goal.</p>
{f"<p>Not installed, so not measured: {html.escape(skipped)}.</p>" if skipped else ""}
{table(figures)}
{"".join(plot(entry) for entry in figures if entry["peers"])}
</body></html>
'''
