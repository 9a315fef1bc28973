// Hands the page's data to Plotly and DataTables. Text from files goes through a text node first: markup in it stays text.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = window.jQuery;
const SCORE = 0, VERDICT = 1, STATUS = 2, NAME = 3, ARTIST = 4, TITLE = 5, SECONDS = 6, STRIP = 7, DECISION = 8, PLACE = 9, DETAILS = 10, PATH = 11, LINK = 12, RANGES = 13, E_VALUE = 14;

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// --- charts -------------------------------------------------------------------------------------------------

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
// Plotly reads a few tags in text, and decodes entities after that.
const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

function axis(extra) {
  return { gridcolor: colour("line"), zerolinecolor: colour("line"), linecolor: colour("line"), automargin: true, ...extra };
}

function layout(extra) {
  return {
    margin: { l: 8, r: 12, t: 8, b: 32 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 12, color: colour("ink") },
    hoverlabel: { bgcolor: colour("card"), font: { color: colour("ink") } }, ...extra,
  };
}

function histogram(charts) {
  const colours = { flagged: "ai", review: "review", clear: "clear", "no verdict": "human" };
  const bins = 50;
  const traces = Object.entries(charts.histogram).reverse().map(([verdict, counts]) => ({
    type: "bar", name: verdict, x: counts.map((_, i) => (i + 0.5) / bins), y: counts, width: 1 / bins,
    marker: { color: colour(colours[verdict]) }, hovertemplate: "%{y:,} " + verdict + "<extra>score %{x:.2f}</extra>",
  }));
  const most = Math.max(1, ...Object.values(charts.histogram).flat());
  // The labels stand on the outer sides of the two lines, which are often close together.
  const lines = [["flagged", "ai", "left"], ["review", "review", "right"]].filter(([name]) => charts[name] !== null && charts[name] <= 1);
  const marks = lines.map(([name, tint]) => ({
    type: "line", xref: "x", yref: "paper", x0: charts[name], x1: charts[name], y0: 0, y1: 1,
    line: { color: colour(tint), width: 1.5, dash: "dash" },
  }));
  const labels = lines.map(([name, tint, xanchor]) => ({
    text: name, xref: "x", yref: "paper", x: charts[name], y: 1, xanchor, yanchor: "bottom", showarrow: false,
    font: { size: 11, color: colour(tint) },
  }));
  return [traces, layout({
    barmode: "stack", shapes: marks, annotations: labels, margin: { l: 8, r: 44, t: 26, b: 32 }, showlegend: traces.length > 1,
    legend: { orientation: "h", y: -0.34, traceorder: "reversed" },
    xaxis: axis({ range: [0, 1], title: { text: "score" } }),
    yaxis: axis({ title: { text: "tracks" }, ...(most > 200 ? { type: "log", dtick: 1, range: [-0.2, Math.log10(most) + 0.2] } : { rangemode: "tozero" }) }),
  })];
}

function shares(bars) {
  const trace = {
    type: "bar", orientation: "h", x: bars.share, y: bars.names.map((_, i) => i), customdata: bars.text,
    marker: { color: colour("ai") },
    error_x: { type: "data", array: bars.more, arrayminus: bars.less, color: colour("soft"), thickness: 1.2, width: 3 },
    hovertemplate: "%{customdata} flagged (%{x:.1%})<extra></extra>",
  };
  const short = bars.names.map((name) => plain(name.length > 26 ? name.slice(0, 25) + "…" : name));
  return [[trace], layout({
    bargap: 0.35,
    xaxis: axis({ tickformat: ".0%", rangemode: "nonnegative" }),
    yaxis: axis({ autorange: "reversed", tickvals: bars.names.map((_, i) => i), ticktext: short }),
  })];
}

function drawCharts() {
  const plans = { histogram: histogram(data.charts) };
  for (const name of ["folders", "artists"]) {
    if (data.charts[name]) plans[name] = shares(data.charts[name]);
    else document.getElementById(name + "-box").hidden = true;
  }
  for (const [name, [traces, made]] of Object.entries(plans)) {
    Plotly.react(name, traces, made, { displayModeBar: false, responsive: true });
  }
}

// --- table --------------------------------------------------------------------------------------------------

// Bars of window margins, from numbers alone; a bar of data.scale log-odds fills half the height.
function strip(margins, width, height) {
  if (!margins.length) return "";
  const step = width / margins.length, middle = height / 2;
  const bars = margins.map((margin, i) => {
    const size = Math.max(0.7, Math.min(Math.abs(margin) / data.scale, 1) * middle);
    const reaches = data.limit !== null && margin >= data.limit;
    const tint = reaches ? "ai" : margin > 0 ? "review" : "human";
    return `<rect x="${(i * step).toFixed(1)}" y="${(margin > 0 ? middle - size : middle).toFixed(1)}"` +
      ` width="${Math.max(1, step - 1).toFixed(1)}" height="${size.toFixed(1)}" fill="var(--${tint})"/>`;
  });
  return `<svg width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-label="window margins">` +
    `<line x1="0" x2="${width}" y1="${middle}" y2="${middle}" stroke="var(--line)"/>${bars.join("")}</svg>`;
}

const pathOf = (row) => row[PATH] ?? data.root + row[NAME];
// What this browser's user decided, or else what the page was made with.
const decided = (row) => (window.decisions.of(pathOf(row)) || {}).decision || row[DECISION].split(",")[0];

const KINDS = { flagged: "flagged", review: "review", clear: "clear" };

function badge(text, kind) {
  return element("span", "badge " + kind, text).outerHTML;
}

function escaped(text) {
  return element("span", "", text).innerHTML;
}

function details(row) {
  const box = element("div", "detail");
  const list = element("dl");
  const facts = [["path", data.root + row[NAME]], ["artist", row[ARTIST]], ["title", row[TITLE]], ["decision", row[DECISION]]];
  for (const [label, text] of [...facts, ...Object.entries(row[DETAILS])]) {
    if (text) list.append(element("dt", "", label), element("dd", label === "path" || label === "SHA-256" ? "mono" : "", text));
  }
  box.append(list);
  if (row[STRIP].length) {
    const bars = element("div");
    bars.innerHTML = strip(row[STRIP], 480, 60);
    box.append(bars);
  }
  box.append(window.decisionBox(pathOf(row), row[LINK], row[RANGES], element));
  if (row[PLACE]) {
    const open = element("button", "open-evidence", "Show the evidence");
    open.type = "button";
    open.addEventListener("click", () => {
      const place = document.getElementById(row[PLACE] + "-box");
      place.open = true;
      place.scrollIntoView({ behavior: "smooth", block: "start" });
    });
    box.append(open);
  }
  return box;
}

// Rows without a value come last in descending order, and first in ascending order.
const shown = (draw) => (value, kind) => (kind === "display" ? draw(value) : value === null ? -1 : value);
const dropdown = (content) => [{ extend: "dropdown", icon: "search", text: "Filter", content: [content] }];
const pick = dropdown("searchList");
const search = dropdown("search");

const table = $("#tracks").DataTable({
  data: data.rows,
  deferRender: true,
  autoWidth: false,
  order: [],
  pageLength: 25,
  lengthMenu: [25, 100, 500],
  language: { search: "", searchPlaceholder: "Search path, artist, title", lengthMenu: "_MENU_ a page", info: "_START_ to _END_ of _TOTAL_", infoFiltered: "(of _MAX_)", emptyTable: "No tracks" },
  layout: { topStart: "search", topEnd: "pageLength" },
  columns: [
    { data: SCORE, type: "num", className: "number", searchable: false, columnControl: search, render: shown((v) => (v === null ? "-" : v.toFixed(4))) },
    { data: VERDICT, type: "string", columnControl: pick, render: shown((v) => (v ? badge(v, KINDS[v] || "") : "-")) },
    { data: STATUS, type: "string", className: "wide-only", columnControl: pick, render: shown((v) => (v === "ok" ? "ok" : badge(v, "failed"))) },
    { data: NAME, type: "string", className: "file", columnControl: search, render: shown(escaped) },
    { data: ARTIST, type: "string", className: "wide-only", columnControl: search, render: shown(escaped) },
    { data: TITLE, type: "string", className: "wide-only", columnControl: search, render: shown(escaped) },
    { data: SECONDS, type: "num", className: "number wide-only", searchable: false, render: shown((v) => (v === null ? "-" : (v / 60).toFixed(1))) },
    { data: STRIP, type: "string", className: "strip wide-only", orderable: false, searchable: false, columnControl: [], render: (v, kind) => (kind === "display" ? strip(v, 120, 26) : "") },
    { data: DECISION, type: "string", className: "wide-only", columnControl: search, render: (v, kind, row) => (kind === "display" ? decided(row) && badge(decided(row), "decided") : kind === "filter" ? `${decided(row)} ${v}` : decided(row)) },
    { data: E_VALUE, type: "num", className: "number wide-only", searchable: false, columnControl: [], render: shown((v) => (v === null ? "-" : v.toFixed(2))) },
  ],
  createdRow: (row) => {
    row.classList.add("main");
    row.tabIndex = 0;
  },
});

$("#tracks tbody").on("click keydown", "tr.main", function (event) {
  if (event.type === "keydown" && event.key !== "Enter") return;
  const row = table.row(this);
  if (row.child.isShown()) row.child.hide();
  else row.child(details(row.data())).show();
});

// --- decisions ----------------------------------------------------------------------------------------------

const pageOf = (row) => table.row(row).data();
const wanted = document.getElementById("decision-filter");
$.fn.dataTable.ext.search.push((settings, cells, index, row) =>
  !wanted.value || (wanted.value === "undecided" ? !decided(row) : decided(row) === wanted.value));
wanted.addEventListener("change", () => table.draw());

const reviewer = document.getElementById("reviewer");
reviewer.value = window.decisions.by;
reviewer.addEventListener("change", () => (window.decisions.by = reviewer.value.trim()));

const said = document.getElementById("decisions-said");
function sayDecisions(message) {
  said.textContent = message || `${window.decisions.count()} decided here`;
}
window.decisions.onChange((message) => {
  table.rows().invalidate("data");
  table.draw(false);
  sayDecisions(message);
});
sayDecisions();

document.getElementById("save-decisions").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([window.decisions.csv()], { type: "text/csv" }));
  link.download = "reviewed.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
});
const paths = new Set(data.rows.map(pathOf));
const byHash = new Map(data.rows.filter((row) => row[DETAILS]["SHA-256"]).map((row) => [row[DETAILS]["SHA-256"], pathOf(row)]));
const pathOnPage = (path, hash) => byHash.get(hash) || (paths.has(path) ? path : null);
document.getElementById("load-decisions").addEventListener("change", async (event) => {
  try {
    const { loaded, unmatched } = window.decisions.load(await event.target.files[0].text(), pathOnPage);
    const named = unmatched.slice(0, 3).join(", ") + (unmatched.length > 3 ? ", ..." : "");
    sayDecisions(`${loaded} decisions loaded` + (unmatched.length ? `; ${unmatched.length} are about tracks that this page does not list: ${named}` : ""));
  } catch (error) {
    sayDecisions(error.message);
  }
  event.target.value = "";
});

// Keys on a track: a, h and u decide, Backspace removes the decision, j and k select the next and the previous track.
const DECIDES = { a: "ai", h: "human", u: "unsure", Backspace: "" };
$("#tracks tbody").on("keydown", "tr.main", function (event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target !== this) return;
  if (event.key in DECIDES) {
    event.preventDefault();
    const at = [...document.querySelectorAll("#tracks tbody tr.main")].indexOf(this);
    window.decisions.take(pathOf(pageOf(this)), DECIDES[event.key]);
    const left = document.querySelectorAll("#tracks tbody tr.main");
    if (left.length) left[Math.min(at, left.length - 1)].focus();
  } else if (event.key === "j" || event.key === "k") {
    const rows = [...document.querySelectorAll("#tracks tbody tr.main")];
    const next = rows[rows.indexOf(this) + (event.key === "j" ? 1 : -1)];
    if (next) next.focus();
  }
});

// --- start --------------------------------------------------------------------------------------------------

drawCharts();
document.addEventListener("themechange", drawCharts);
// The page cannot read the width of the paper. Charts of 320 pixels fit on any paper.
const charts = () => document.querySelectorAll(".chart.js-plotly-plot");
window.addEventListener("beforeprint", () => charts().forEach((chart) => Plotly.relayout(chart, { autosize: false, width: 320 })));
window.addEventListener("afterprint", () => charts().forEach((chart) => Plotly.relayout(chart, { autosize: true, width: null })));
document.documentElement.dataset.ready = "true";
