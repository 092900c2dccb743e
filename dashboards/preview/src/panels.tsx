// Panels: lines, large values, gauges and tables by Grafana's own components; state timelines, heatmaps and the node
// graph, which Grafana ships only inside its server, by small stand-ins that read the same options.
import React, { useEffect, useRef } from 'react';
import { dateTime, FieldType, getFieldDisplayName, getFieldDisplayValues, VizOrientation } from '@grafana/data';
import { BigValue, Gauge, Table, TimeSeries } from '@grafana/ui';
import { interpolateBlues, interpolateOranges, interpolateSpectral } from 'd3-scale-chromatic';

const timeRange = (r: any) => ({ from: dateTime(r.from), to: dateTime(r.to), raw: { from: dateTime(r.from), to: dateTime(r.to) } });
const nothing = (panel: any) => (
  <div style={{ display: 'flex', alignItems: 'center', justifyContent: 'center', height: '100%', opacity: 0.6 }}>
    {panel.fieldConfig.defaults.noValue ?? 'No data'}
  </div>
);

export function Lines({ panel, data, range, width, height, theme, dump }: any) {
  if (!data.length) return nothing(panel);
  const legend = panel.options.legend;
  const wantsExemplars = panel.targets.some((t: any) => t.exemplar);
  const color = (name: string) => theme.visualization.getColorByName(name);
  const draw = (u: any) => {
    const ctx = u.ctx;
    ctx.save();
    for (const mark of dump.marks) {
      for (const s of mark.result) {
        const at = s.values[s.values.length - 1]?.[1];
        if (!at || at < range.from || at > range.to) continue;
        const x = u.valToPos(at, 'x', true);
        ctx.strokeStyle = color(mark.color);
        ctx.fillStyle = color(mark.color);
        ctx.lineWidth = 1;
        ctx.setLineDash([4, 4]);
        ctx.beginPath();
        ctx.moveTo(x, u.bbox.top);
        ctx.lineTo(x, u.bbox.top + u.bbox.height);
        ctx.stroke();
        ctx.beginPath();
        ctx.moveTo(x - 5, u.bbox.top + u.bbox.height + 6);
        ctx.lineTo(x + 5, u.bbox.top + u.bbox.height + 6);
        ctx.lineTo(x, u.bbox.top + u.bbox.height);
        ctx.fill();
      }
    }
    if (wantsExemplars) {
      ctx.setLineDash([]);
      const scale = Object.keys(u.scales).find((k) => k !== 'x' && u.scales[k].min != null)!;
      const seen = new Set<number>();
      // Slowest first, one for each sixteen pixels: Grafana thins them out as well.
      for (const [at, v, service, version] of [...dump.exemplars].sort((a: any, b: any) => b[1] - a[1])) {
        if (dump.variables.service && service !== dump.variables.service[0]) continue;
        if (dump.variables.canary_version && version !== dump.variables.canary_version[0]) continue;
        const place = Math.floor(u.valToPos(at, 'x', true) / 16);
        if (seen.has(place)) continue;
        seen.add(place);
        const [x, y] = [u.valToPos(at, 'x', true), u.valToPos(v, scale, true)];
        if (y < u.bbox.top || x < u.bbox.left) continue;
        ctx.fillStyle = 'rgba(110,159,255,0.8)';
        ctx.fillRect(x - 3, y - 3, 6, 6);
      }
    }
    ctx.restore();
  };
  return (
    <TimeSeries frames={data} structureRev={1} timeRange={timeRange(range)} timeZone="utc" width={width} height={height} legend={legend} options={{} as any}>
      {(builder: any) => { builder.addHook('draw', draw); return null; }}
    </TimeSeries>
  );
}

function values(panel: any, data: any, theme: any) {
  return getFieldDisplayValues({
    fieldConfig: panel.fieldConfig, reduceOptions: panel.options.reduceOptions, replaceVariables: (v: string) => v, theme, data, timeZone: 'utc',
    sparkline: panel.options.graphMode === 'area',
  } as any);
}

export function Stats({ panel, data, width, height, theme }: any) {
  if (!data.length) return nothing(panel);
  const all = values(panel, data, theme);
  const vertical = panel.options.orientation === 'vertical';
  const w = vertical ? width : Math.floor(width / all.length);
  const h = vertical ? Math.floor(height / all.length) : height;
  return (
    <div style={{ display: 'flex', flexDirection: vertical ? 'column' : 'row' }}>
      {all.map((v: any, i: number) => (
        <BigValue key={i} value={all.length === 1 && panel.options.textMode !== 'value_and_name' ? { ...v.display, title: undefined } : v.display}
          sparkline={v.sparkline} width={w} height={h} theme={theme} colorMode={panel.options.colorMode} graphMode={panel.options.graphMode}
          textMode={panel.options.textMode} justifyMode={panel.options.justifyMode} disableWideLayout={false} />
      ))}
    </div>
  );
}

export function Gauges({ panel, data, width, height, theme }: any) {
  if (!data.length) return nothing(panel);
  const v: any = values(panel, data, theme)[0];
  return <Gauge value={{ ...v.display, title: undefined }} field={v.field} width={width} height={height} theme={theme} showThresholdLabels={false} showThresholdMarkers orientation={VizOrientation.Auto} />;
}

export function TableView({ panel, data, width, height }: any) {
  if (!data.length || !data[0].length) return nothing(panel);
  const frame = data[0];
  const sort = panel.options.sortBy?.map((s: any) => ({ displayName: s.displayName, desc: s.desc }));
  return <Table data={frame} width={width} height={height} noHeader={panel.options.showHeader === false} initialSortBy={sort} cellHeight={'sm' as any} />;
}

export function StateTimeline({ panel, data, range, width, height }: any) {
  const rows = data.map((f: any) => f.fields.find((x: any) => x.type === FieldType.number)).filter(Boolean);
  const times = data.map((f: any) => f.fields[0].values);
  const left = 190, bottom = 22;
  const rowHeight = (height - bottom) / Math.max(rows.length, 1);
  const x = (t: number) => left + ((t - range.from) / (range.to - range.from)) * (width - left - 8);
  return (
    <svg width={width} height={height} style={{ fontSize: 12 }}>
      {rows.map((field: any, r: number) => {
        const segments: any[] = [];
        const t = times[r];
        const step = t.length > 1 ? t[1] - t[0] : 15000;
        for (let i = 0; i < t.length; i++) {
          const last = segments[segments.length - 1];
          if (last && last.v === field.values[i] && t[i] - last.to <= step * 1.5) last.to = t[i] + step;
          else segments.push({ v: field.values[i], from: t[i], to: t[i] + step });
        }
        const name = getFieldDisplayName(field, data[r], data);
        return (
          <g key={r}>
            <text x={left - 8} y={r * rowHeight + rowHeight / 2 + 4} fill="#ccccdc" textAnchor="end">{name}</text>
            {segments.map((s, i) => {
              const d = field.display(s.v);
              const [a, b] = [Math.max(x(s.from), left), Math.min(x(s.to), width - 8)];
              const text = d.text.length * 6.6 < b - a - 8 ? d.text : '';
              return (
                <g key={i}>
                  <rect x={a} y={r * rowHeight + rowHeight * 0.08} width={Math.max(b - a, 1)} height={rowHeight * 0.84} fill={d.color} fillOpacity={0.75} />
                  <text x={a + 6} y={r * rowHeight + rowHeight / 2 + 4} fill="#111217">{text}</text>
                </g>
              );
            })}
          </g>
        );
      })}
      {[0, 0.25, 0.5, 0.75, 1].map((q) => (
        <text key={q} x={left + q * (width - left - 40) + 16} y={height - 6} fill="#ccccdc" opacity={0.7} textAnchor="middle">
          {dateTime(range.from + q * (range.to - range.from)).utc().format('HH:mm')}
        </text>
      ))}
    </svg>
  );
}

const SCHEMES: any = { Blues: interpolateBlues, Oranges: interpolateOranges, Spectral: (t: number) => interpolateSpectral(1 - t) };

export function Heatmap({ panel, answers, range, width, height }: any) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const result = answers[0]?.result ?? [];
  useEffect(() => {
    const ctx = canvas.current!.getContext('2d')!;
    const les = result.map((s: any) => ({ le: s.metric.le === '+Inf' ? Infinity : Number(s.metric.le), values: new Map(s.values) }));
    les.sort((a: any, b: any) => a.le - b.le);
    const times = [...new Set(result.flatMap((s: any) => s.values.map((v: any) => v[0])))].sort() as number[];
    const cells: any[] = [];
    let max = 0;
    for (const t of times) {
      let below = 0;
      les.forEach((l: any, i: number) => {
        const v = Number(l.values.get(t) ?? 0);
        const n = Math.max(v - below, 0);
        below = Math.max(v, below);
        if (n > 1e-9) { cells.push([t, i, n]); max = Math.max(max, n); }
      });
    }
    const used = cells.map((c) => c[1]);
    const [low, high] = [Math.min(...used), Math.max(...used) + 1];
    const left = 60, bottom = 20;
    const h = (height - bottom) / (high - low);
    const step = times.length > 1 ? times[1] - times[0] : 15000;
    const x = (t: number) => left + ((t - range.from) / (range.to - range.from)) * (width - left);
    for (const [t, i, n] of cells) {
      ctx.fillStyle = SCHEMES[panel.options.color.scheme](0.15 + 0.85 * Math.pow(n / max, panel.options.color.exponent));
      ctx.fillRect(Math.max(x(t), left), (high - 1 - i) * h, Math.max(x(t + step) - x(t) - 1, 1), Math.max(h - 1, 1));
    }
    ctx.fillStyle = '#ccccdc';
    ctx.font = '11px sans-serif';
    ctx.textAlign = 'right';
    const every = Math.ceil((high - low) / 8);
    for (let i = low; i < high; i += every) {
      const le = les[i].le;
      ctx.fillText(le === Infinity ? '+Inf' : le < 1 ? `${Math.round(le * 1000)} ms` : `${le.toFixed(2)} s`, left - 6, (high - 1 - i) * h + h / 2 + 4);
    }
    ctx.textAlign = 'center';
    for (const q of [0.1, 0.35, 0.6, 0.85]) ctx.fillText(dateTime(range.from + q * (range.to - range.from)).utc().format('HH:mm'), left + q * (width - left), height - 5);
  }, []);
  if (!result.length) return nothing(panel);
  return <canvas ref={canvas} width={width} height={height} />;
}

// Grafana asks the service graph's metrics itself; the figures here are those of the board's table of calls.
export function NodeGraph({ dump, width, height }: any) {
  const of = (ref: string) => dump.answers.filter((a: any) => a.title === 'Calls' && a.refId === ref).flatMap((a: any) => a.result);
  const rate = of('A'), errors = of('B'), slow = of('C');
  const find = (rows: any[], m: any) => Number(rows.find((r) => r.metric.client === m.client && r.metric.server === m.server)?.values[0][1] ?? 0);
  const names = [...new Set(rate.flatMap((r: any) => [r.metric.client, r.metric.server]))] as string[];
  const depth: any = {};
  const level = (n: string, seen: string[] = []): number => (depth[n] ??= Math.max(0, ...rate.filter((r: any) => r.metric.server === n && r.metric.client !== n && !seen.includes(r.metric.client)).map((r: any) => level(r.metric.client, [...seen, n]) + 1)));
  names.forEach((n) => level(n));
  const columns = Math.max(...names.map((n) => depth[n])) + 1;
  const place = (n: string) => {
    const same = names.filter((m) => depth[m] === depth[n]);
    return [((depth[n] + 0.5) / columns) * width, ((same.indexOf(n) + 0.5) / same.length) * height];
  };
  return (
    <svg width={width} height={height} fontSize={13}>
      <defs><marker id="to" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L10 5L0 10z" fill="#8e8e99" /></marker></defs>
      {rate.map((r: any, i: number) => {
        const [a, b] = [place(r.metric.client), place(r.metric.server)];
        const d = Math.hypot(b[0] - a[0], b[1] - a[1]) || 1;
        const [ux, uy] = [((b[0] - a[0]) / d) * 42, ((b[1] - a[1]) / d) * 42];
        return (
          <g key={i}>
            <line x1={a[0] + ux} y1={a[1] + uy} x2={b[0] - ux} y2={b[1] - uy} stroke="#8e8e99" markerEnd="url(#to)" />
            <text x={(a[0] + b[0]) / 2} y={(a[1] + b[1]) / 2 - 10} fill="#ccccdc" textAnchor="middle">{find(rate, r.metric).toFixed(2)} r/s</text>
            <text x={(a[0] + b[0]) / 2} y={(a[1] + b[1]) / 2 + 20} fill="#ccccdc" opacity={0.7} textAnchor="middle">{(find(slow, r.metric) * 1000).toFixed(0)} ms</text>
          </g>
        );
      })}
      {names.map((n) => {
        const [x, y] = place(n);
        const incoming = rate.filter((r: any) => r.metric.server === n);
        const share = incoming.length ? Math.max(...incoming.map((r: any) => find(errors, r.metric))) : 0;
        const around = 2 * Math.PI * 38;
        return (
          <g key={n}>
            <circle cx={x} cy={y} r={38} fill="#181b1f" stroke="#73bf69" strokeWidth={4} />
            <circle cx={x} cy={y} r={38} fill="none" stroke="#f2495c" strokeWidth={4} strokeDasharray={`${share * around} ${around}`} />
            <text x={x} y={y + 60} fill="#ccccdc" textAnchor="middle">{n}</text>
          </g>
        );
      })}
    </svg>
  );
}

export function Traces({ panel, dump, height }: any) {
  const rows = panel.targets[0].query.includes('error') ? dump.failed : dump.slow;
  const cell = { padding: '6px 8px', borderBottom: '1px solid #2c3036', whiteSpace: 'nowrap' as const };
  return (
    <div style={{ height, overflow: 'hidden' }}>
      <table style={{ width: '100%', fontSize: 13 }}>
        <thead><tr>{['Trace ID', 'Start time', 'Service', 'Name', 'Duration'].map((h) => <th key={h} style={{ ...cell, textAlign: 'left' }}>{h}</th>)}</tr></thead>
        <tbody>
          {rows.map((r: any) => (
            <tr key={r.traceID}>
              <td style={{ ...cell, color: '#6e9fff' }}>{r.traceID.slice(0, 16)}</td>
              <td style={cell}>{dateTime(r.start).utc().format('YYYY-MM-DD HH:mm:ss')}</td>
              <td style={cell}>{r.service}</td><td style={cell}>{r.name}</td><td style={cell}>{r.ms.toFixed(0)} ms</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
