// The panels of a dashboard, drawn by Grafana's own components from the answers of a Prometheus.
// `?board=UID&dark=1&copies=200&empty=1`: copies makes more series of an answer with labels, empty leaves all out.

// By require: the packages' ES modules take the default exports of older packages for what they are not.
const React = require("react");
const { createRoot } = require("react-dom/client");
const { firstValueFrom } = require("rxjs");
const data = require("@grafana/data");
const ui = require("@grafana/ui");

const COLUMN = 1400 / 24;
const ROW = 38; // pixels, as in Grafana
const GAP = 8;
const same = (value) => value;

// What Grafana's core registers before it draws a panel.
const PROCESSORS = {
  unit: data.unitOverrideProcessor,
  min: data.numberOverrideProcessor,
  max: data.numberOverrideProcessor,
  decimals: data.numberOverrideProcessor,
  displayName: data.displayNameOverrideProcessor,
  thresholds: data.thresholdsOverrideProcessor,
  mappings: data.valueMappingsOverrideProcessor,
};
const STANDARD = [...Object.keys(PROCESSORS), "noValue", "links", "color"];
const CUSTOM = [
  "stacking",
  "fillOpacity",
  "lineWidth",
  "showPoints",
  "axisSoftMin",
  "axisSoftMax",
  "cellOptions",
];
const option = (id, path, isCustom) => ({
  ...{ id, path, isCustom, name: path },
  process: PROCESSORS[path] ?? same,
  shouldApply: () => true,
});
const standard = () => STANDARD.map((path) => option(path, path, false));
const registry = new data.FieldConfigOptionsRegistry(() => [
  ...standard(),
  ...CUSTOM.map((path) => option(`custom.${path}`, path, true)),
]);
data.standardEditorsRegistry.setInit(() => []);
data.standardFieldConfigEditorRegistry.setInit(standard);
data.standardTransformersRegistry.setInit(() => {
  const byId = new Map(Object.values(data.standardTransformers).map((each) => [each.id, each]));
  return [...byId.values()].map((each) => ({
    id: each.id,
    name: each.name,
    transformation: each,
    editor: () => null,
  }));
});

// What the plug-ins of the panels set where a dashboard says nothing.
const THRESHOLDS = {
  mode: "absolute",
  steps: [
    { value: -Infinity, color: "green" },
    { value: 80, color: "red" },
  ],
};
const LINES = {
  ...{ drawStyle: "line", lineInterpolation: "linear", lineWidth: 1, fillOpacity: 0, showPoints: "auto" },
  ...{ pointSize: 5, axisPlacement: "auto", scaleDistribution: { type: "linear" } },
  ...{ stacking: { mode: "none", group: "A" }, hideFrom: { legend: false, tooltip: false, viz: false } },
};

const asked = new URLSearchParams(location.search);
const theme = data.createTheme({ colors: { mode: asked.get("dark") ? "dark" : "light" } });

function seriesName(legend, labels) {
  if (legend) return legend.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => labels[name] ?? "");
  const shown = Object.entries(labels).map(([name, value]) => `${name}="${value}"`);
  return shown.length ? `{${shown.join(", ")}}` : "Value";
}

/** The answers as data frames, as the data source of Prometheus makes them. */
function framesOf({ panel, answers }) {
  if (panel.type === "table") return answers.map((answer) => tableFrame(answer, answers.length > 1));
  return answers.flatMap(({ ref, legend, series }) =>
    series.map(([labels, points]) =>
      data.toDataFrame({
        refId: ref,
        fields: [
          { name: "Time", type: data.FieldType.time, values: points.map(([atS]) => Math.round(atS) * 1000) },
          {
            ...{ name: "Value", type: data.FieldType.number, labels },
            values: points.map(([, value]) => Number(value)),
            config: { displayNameFromDS: seriesName(legend, labels) },
          },
        ],
      }),
    ),
  );
}

function tableFrame({ ref, series }, isOneOfSeveral) {
  const names = [...new Set(series.flatMap(([labels]) => Object.keys(labels)))].sort();
  return data.toDataFrame({
    refId: ref,
    fields: [
      { name: "Time", type: data.FieldType.time, values: series.map(() => 0) }, // one moment for all queries
      ...names.map((name) => ({
        ...{ name, type: data.FieldType.string },
        values: series.map(([labels]) => labels[name] ?? ""),
      })),
      {
        ...{ name: isOneOfSeveral ? `Value #${ref}` : "Value", type: data.FieldType.number },
        values: series.map(([, points]) => Number(points[0][1])),
      },
    ],
  });
}

/** The frames after the panel's transformations, with its units, colours and thresholds. */
async function prepared(one) {
  const { transformations = [], fieldConfig, type } = one.panel;
  let frames = framesOf(one);
  if (transformations.length)
    frames = await firstValueFrom(data.transformDataFrame(transformations, frames, { interpolate: same }));
  const color = { mode: type === "timeseries" ? "palette-classic" : "thresholds" };
  fieldConfig.defaults = { color, thresholds: THRESHOLDS, ...fieldConfig.defaults };
  const shown = data.applyFieldOverrides({
    ...{ data: frames, fieldConfig, replaceVariables: same, theme, timeZone: "utc" },
    fieldConfigRegistry: registry,
  });
  for (const field of shown.flatMap((frame) => frame.fields))
    field.config = {
      ...field.config,
      custom: { ...LINES, ...fieldConfig.defaults.custom, ...field.config.custom },
    };
  return shown;
}

function Content({ panel, frames, endS, width, height }) {
  const { type, options, fieldConfig } = panel;
  const nothing = <p style={{ textAlign: "center" }}>No data</p>;
  if (type === "table")
    return frames.length ? <ui.Table data={frames[0]} width={width} height={height} /> : nothing;
  if (type === "timeseries") {
    const [from, to] = [data.dateTime((endS - 90) * 1000), data.dateTime(endS * 1000)];
    return frames.length ? (
      <ui.TimeSeries
        {...{ frames, width, height, options, legend: options.legend, timeZone: "utc", structureRev: 1 }}
        timeRange={{ from, to, raw: { from, to } }}
        replaceVariables={same}
        dataLinkPostProcessor={() => []}
      />
    ) : (
      nothing
    );
  }
  if (type === "gauge") return <p style={{ textAlign: "center" }}>a dial, which the packages cannot draw</p>;
  const values = () =>
    data.getFieldDisplayValues({
      ...{
        fieldConfig,
        reduceOptions: options.reduceOptions,
        replaceVariables: same,
        theme,
        timeZone: "utc",
      },
      data: frames,
    });
  const { colorMode, graphMode, justifyMode, displayMode } = options;
  const isBars = type === "bargauge";
  return (
    <ui.VizRepeater
      {...{
        width,
        height,
        source: frames,
        renderCounter: 0,
        autoGrid: !isBars,
        minVizHeight: isBars ? 16 : 0,
      }}
      orientation={isBars ? "horizontal" : "auto"}
      getValues={values}
      getAlignmentFactors={data.getDisplayValueAlignmentFactors}
      renderValue={({ value, width, height, count, alignmentFactors }) =>
        isBars ? (
          <ui.BarGauge
            {...{
              theme,
              width,
              height,
              alignmentFactors,
              displayMode,
              value: value.display,
              field: value.field,
            }}
            orientation="horizontal"
          />
        ) : (
          <ui.BigValue
            {...{ theme, width, height, count, colorMode, graphMode, justifyMode, value: value.display }}
            textMode={options.textMode === "auto" && count === 1 ? "value" : options.textMode}
          />
        )
      }
    />
  );
}

function edited(one) {
  const copies = Number(asked.get("copies") ?? 1);
  for (const answer of one.answers) {
    if (asked.get("empty")) answer.series = [];
    if (copies > 1 && answer.series.some(([labels]) => Object.keys(labels).length))
      answer.series = Array.from({ length: copies }, (_, place) => copy(answer.series, place, copies));
  }
  return one;
}

function copy(series, place, copies) {
  const [labels, points] = series[place % series.length];
  const mark = place < series.length ? "" : `-${place}`;
  return [
    Object.fromEntries(Object.entries(labels).map(([name, value]) => [name, `${value}${mark}`])),
    points.map(([atS, value]) => [atS, String(Number(value) * (1 + place / copies))]),
  ];
}

async function main() {
  const all = (await (await fetch("answers.json")).json()).filter((one) => one.board === asked.get("board"));
  const endS = Math.max(
    ...all.flatMap((one) =>
      one.answers.flatMap(({ series }) => series.map(([, points]) => points.at(-1)[0])),
    ),
  );
  const shown = [];
  for (const one of all.map(edited)) shown.push([one.panel, await prepared(one)]);
  document.body.style.cssText = `margin: 0; color: ${theme.colors.text.primary}; font: 14px sans-serif`;
  const panels = shown.map(([panel, frames]) => {
    const { x, y, w, h } = panel.gridPos;
    const [width, height] = [w * COLUMN - GAP, h * ROW - GAP];
    return (
      <div key={panel.id} style={{ position: "absolute", left: x * COLUMN, top: y * ROW, width, height }}>
        <ui.PanelChrome title={panel.title} width={width} height={height}>
          {(width, height) => <Content {...{ panel, frames, endS, width, height }} />}
        </ui.PanelChrome>
      </div>
    );
  });
  const rows = Math.max(...shown.map(([{ gridPos }]) => gridPos.y + gridPos.h));
  const style = { position: "relative", height: rows * ROW, background: theme.colors.background.canvas };
  createRoot(document.getElementById("root")).render(
    <data.ThemeContext.Provider value={theme}>
      <div style={style}>{panels}</div>
    </data.ThemeContext.Provider>,
  );
  document.fonts.ready.then(() => setTimeout(() => (document.title = "drawn"), 1000));
}

main();
