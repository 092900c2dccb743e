// A board, drawn: ?board=release.json[&data=URL of the dump].
import React from 'react';
import { createRoot } from 'react-dom/client';
import { createTheme } from '@grafana/data';
import { GlobalStyles, PanelChrome, PortalContainer, ThemeContext } from '@grafana/ui';
import 'uplot/dist/uPlot.min.css';
import { framesOf, prepare } from './frames';
import { Heatmap, Lines, NodeGraph, Stats, StateTimeline, TableView, Gauges, Traces } from './panels';

const theme = createTheme({ colors: { mode: 'dark' } });
const CELL = 30;
const GAP = 8;
const WIDTH = 1560;

function fill(text: string, values: Record<string, string[]>, scope?: [string, string]) {
  let out = text;
  const names = Object.keys(values).sort((a, b) => b.length - a.length);
  if (scope) out = out.replaceAll('$' + scope[0], scope[1]);
  for (const n of names) out = out.replaceAll('$' + n, values[n].join(' + '));
  return out;
}

function View({ panel, answers, dump, width, height }: any) {
  const frames = framesOf(panel, answers);
  const data = prepare(panel, frames, theme);
  const range = { from: dump.from, to: dump.to };
  const props = { panel, data, range, width, height, theme, dump };
  switch (panel.type) {
    case 'timeseries': return <Lines {...props} />;
    case 'stat': return <Stats {...props} />;
    case 'gauge': return <Gauges {...props} />;
    case 'table': return panel.targets[0].queryType === 'traceql' ? <Traces {...props} /> : <TableView {...props} />;
    case 'state-timeline': return <StateTimeline {...props} />;
    case 'heatmap': return <Heatmap {...props} answers={answers} />;
    case 'nodeGraph': return <NodeGraph {...props} />;
    default: return <div>{panel.type}</div>;
  }
}

class Guard extends React.Component<any, { error?: Error }> {
  state = {} as { error?: Error };
  static getDerivedStateFromError(error: Error) { return { error }; }
  render() { return this.state.error ? <pre style={{ color: 'red' }}>{String(this.state.error.stack)}</pre> : this.props.children; }
}

function Board({ board, dump }: any) {
  const unit = WIDTH / 24;
  let shift = 0;
  const boxes: any[] = [];
  for (const panel of board.panels) {
    const g = panel.gridPos;
    if (panel.type === 'row') {
      boxes.push(
        <div key={panel.id} style={{ position: 'absolute', left: 0, top: (g.y + shift) * (CELL + GAP), height: CELL, width: WIDTH, lineHeight: '34px', fontSize: 17, fontWeight: 500 }}>
          <span style={{ opacity: 0.6, marginRight: 8 }}>⌄</span>{fill(panel.title, dump.variables)}
        </div>
      );
      continue;
    }
    const scopes = panel.repeat ? dump.variables[panel.repeat] : [undefined];
    const per = panel.maxPerRow ?? 1;
    scopes.forEach((scope: string | undefined, i: number) => {
      const w = panel.repeat ? 24 / per : g.w;
      const x = panel.repeat ? (i % per) * w : g.x;
      const y = g.y + shift + (panel.repeat ? Math.floor(i / per) * g.h : 0);
      const width = w * unit - GAP;
      const height = g.h * (CELL + GAP) - GAP;
      const answers = dump.answers.filter((a: any) => a.panel === panel.id && (scope === undefined || a.scope === scope));
      const title = fill(panel.title, dump.variables, scope === undefined ? undefined : [panel.repeat, scope]);
      boxes.push(
        <div key={panel.id + '/' + i} style={{ position: 'absolute', left: x * unit, top: y * (CELL + GAP), width, height }}>
          <PanelChrome title={title} width={width} height={height}>
            {(w: number, h: number) => <Guard><View panel={panel} answers={answers} dump={dump} width={w} height={h} /></Guard>}
          </PanelChrome>
        </div>
      );
    });
    if (panel.repeat) shift += (Math.ceil(scopes.length / per) - 1) * g.h;
  }
  const bottom = Math.max(...board.panels.map((p: any) => p.gridPos.y + p.gridPos.h)) + shift;
  const shown = board.templating.list.filter((v: any) => v.hide !== 2);
  const value = (v: any) => (v.type === 'datasource' ? (v.name === 'traces' ? 'Davy traces' : 'Davy') : v.includeAll ? 'All' : dump.variables[v.name]?.join(' + '));
  return (
    <div style={{ padding: 16, background: theme.colors.background.canvas, color: theme.colors.text.primary, width: WIDTH + 32 }} id="board" data-height={bottom * (CELL + GAP) + 110}>
      <div style={{ fontSize: 18, marginBottom: 10 }}>{board.title}</div>
      <div style={{ display: 'flex', gap: 8, marginBottom: 12, flexWrap: 'wrap' }}>
        {shown.map((v: any) => (
          <div key={v.name} style={{ display: 'flex', fontSize: 12 }}>
            <span style={{ padding: '7px 8px', background: theme.colors.background.secondary, border: `1px solid ${theme.colors.border.weak}` }}>{v.label}</span>
            <span style={{ padding: '7px 12px', border: `1px solid ${theme.colors.border.medium}`, borderLeft: 0 }}>{value(v)}</span>
          </div>
        ))}
      </div>
      <div style={{ position: 'relative', height: bottom * (CELL + GAP) }}>{boxes}</div>
    </div>
  );
}

async function main() {
  const query = new URLSearchParams(location.search);
  const name = query.get('board') ?? 'release.json';
  const board = await (await fetch('/boards/' + name)).json();
  const dump = (await (await fetch(query.get('data') ?? '/dump.json')).json())[name];
  // "10 minutes ago" is told from the end of the story.
  Date.now = () => dump.to;
  createRoot(document.getElementById('root')!).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <Board board={board} dump={dump} />
      <PortalContainer />
    </ThemeContext.Provider>
  );
}
main();
