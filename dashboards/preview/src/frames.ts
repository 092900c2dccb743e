// From Prometheus' answers to Grafana's data frames: the data source's part, and the panel's field configuration.
import {
  applyFieldOverrides, DataFrame, FieldConfigOptionsRegistry, FieldType, getDisplayProcessor, standardTransformers,
  standardTransformersRegistry, transformDataFrame, toDataFrame,
} from '@grafana/data';

standardTransformersRegistry.setInit(() =>
  [...new Map(Object.values(standardTransformers).map((t: any) => [t.id, t])).values()].map((t: any) => ({ id: t.id, name: t.name, transformation: t, editor: () => null, isDefault: true })) as any
);

const STANDARD = ['unit', 'min', 'max', 'decimals', 'displayName', 'noValue', 'color', 'thresholds', 'mappings', 'links'];
const CUSTOM = [
  'lineWidth', 'lineStyle', 'fillOpacity', 'fillBelowTo', 'drawStyle', 'minWidth', 'pointSize', 'showPoints', 'hideFrom', 'axisPlacement', 'width',
  'cellOptions', 'lineInterpolation', 'stacking', 'axisSoftMax', 'spanNulls', 'gradientMode', 'scaleDistribution', 'insertNulls',
  'axisBorderShow', 'axisColorMode', 'thresholdsStyle', 'align', 'inspect', 'filterable',
];
const registry = new FieldConfigOptionsRegistry(() => {
  const item = (id: string, path: string, isCustom: boolean) =>
    ({ id, path, isCustom, name: id, editor: () => null, override: () => null, process: (v: any) => v, shouldApply: () => true }) as any;
  return [...STANDARD.map((p) => item(p, p, false)), ...CUSTOM.map((p) => item('custom.' + p, p, true))];
});

const legend = (format: string, metric: Record<string, string>) =>
  format ? format.replace(/{{\s*(\w+)\s*}}/g, (_, l) => metric[l] ?? '') : Object.entries(metric).map(([k, v]) => `${k}="${v}"`).join(', ');

const number = (v: any) => (typeof v === 'number' ? v : v === 'inf' ? Infinity : v === '-inf' ? -Infinity : null);

export function framesOf(panel: any, answers: any[]): DataFrame[] {
  const out: DataFrame[] = [];
  const tables = answers.filter((a) => a.format === 'table').length;
  for (const a of answers) {
    if (a.format === 'table') {
      const labels = [...new Set(a.result.flatMap((s: any) => Object.keys(s.metric)))] as string[];
      const last = a.result.map((s: any) => s.values[s.values.length - 1]);
      out.push(toDataFrame({
        refId: a.refId,
        fields: [
          { name: 'Time', type: FieldType.time, values: last.map((v: any) => v[0]) },
          ...labels.map((l) => ({ name: l, type: FieldType.string, values: a.result.map((s: any) => s.metric[l] ?? '') })),
          { name: tables > 1 ? `Value #${a.refId}` : 'Value', type: FieldType.number, values: last.map((v: any) => number(v[1])) },
        ],
      }));
      continue;
    }
    for (const s of a.result) {
      const times = s.values.map((v: any) => v[0]);
      out.push(toDataFrame({
        refId: a.refId,
        fields: [
          { name: 'Time', type: FieldType.time, values: times },
          { name: 'Value', type: FieldType.number, labels: s.metric, values: s.values.map((v: any) => number(v[1])), config: { displayNameFromDS: legend(a.legend, s.metric) } },
        ],
      }));
    }
  }
  return out;
}

function transformed(panel: any, frames: DataFrame[]): DataFrame[] {
  if (!panel.transformations?.length) return frames;
  let result: DataFrame[] = frames;
  transformDataFrame(panel.transformations, frames).subscribe((d) => (result = d));
  return result;
}

export function prepare(panel: any, frames: DataFrame[], theme: any): DataFrame[] {
  const data = applyFieldOverrides({
    data: transformed(panel, frames),
    fieldConfig: panel.fieldConfig,
    fieldConfigRegistry: registry,
    replaceVariables: (v: string) => v,
    theme,
    timeZone: 'utc',
  });
  for (const f of data) for (const field of f.fields) field.display ??= getDisplayProcessor({ field, theme });
  return data;
}
