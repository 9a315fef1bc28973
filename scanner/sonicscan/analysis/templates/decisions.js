// Decisions of people on tracks: kept in this browser, saved as reviewed.csv, and loaded again. Runs before audit.js.
const KINDS_OF_DECISION = { ai: "AI", human: "human", unsure: "unsure" };
const ALL_KINDS = [...Object.keys(KINDS_OF_DECISION), "accepted"];
const COLUMNS = ["path", "content_hash", "decision", "by", "date", "expires", "note"];

window.decisions = (() => {
  const store = "sonicscan-decisions-" + JSON.parse(document.getElementById("data").textContent).key;
  const listeners = [];
  let taken = {}, by = "", last = null;
  try {
    ({ taken = {}, by = "" } = JSON.parse(localStorage.getItem(store)) || {});
  } catch {
    // A browser may refuse to store data for a local file. Decisions then last until the page is closed, and can be saved.
  }
  const keep = () => {
    try {
      localStorage.setItem(store, JSON.stringify({ taken, by }));
    } catch {
      last = "This browser cannot store decisions for this page. Save them before you close it.";
    }
    listeners.forEach((listener) => listener(last));
  };
  const today = () => {
    const now = new Date();
    return [now.getFullYear(), now.getMonth() + 1, now.getDate()].map((part) => String(part).padStart(2, "0")).join("-");
  };
  // Text that begins like a formula would run in a spreadsheet. The rules are those of report/cells.py.
  const harmless = (text) => {
    const marked = text.replace(/((?:^|[,;|\t\r\n])[\s"']*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])/g, "$1'");
    return /^'*[\t\r]/.test(marked) ? "'" + marked : marked;
  };
  const plain = (text) =>
    (/^'+[\t\r]/.test(text) ? text.slice(1) : text)
      .replace(/((?:^|[,;|\t\r\n])[\s"']*)'(?=[=+\-@\uff1d\uff0b\uff0d\uff20])/g, "$1");
  const cell = (text) => (/[",\r\n]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text);

  function parse(text) {
    const rows = [[""]];
    let quoted = false;
    for (let i = 0; i < text.length; i++) {
      const row = rows[rows.length - 1], c = text[i];
      if (quoted) {
        if (c === '"' && text[i + 1] === '"') row[row.length - 1] += text[i++];
        else if (c === '"') quoted = false;
        else row[row.length - 1] += c;
      } else if (c === '"') quoted = true;
      else if (c === ",") row.push("");
      else if (c === "\n") rows.push([""]);
      else if (c !== "\r") row[row.length - 1] += c;
    }
    return rows;
  }

  return {
    of: (path) => taken[path] || null,
    get by() { return by; },
    set by(name) { by = name; keep(); },
    count: () => Object.values(taken).filter((one) => one.decision).length,
    onChange: (listener) => listeners.push(listener),
    take(path, decision, note) {
      const before = taken[path] || { decision: "", note: "", date: "" };
      const now = { decision: decision ?? before.decision, note: note ?? before.note, date: today(), by };
      if (now.decision || now.note) taken[path] = now;
      else delete taken[path];
      keep();
    },
    csv() {
      const lines = Object.entries(taken).filter(([, one]) => one.decision).map(([path, one]) =>
        [path, "", one.decision, one.by || by || "unknown", one.date, "", one.note].map(harmless).map(cell).join(","));
      return [COLUMNS.join(","), ...lines].join("\r\n") + "\r\n";
    },
    // Takes decisions over; `pathOf` gives the path of a decision's track on this page, or null.
    load(text, pathOf) {
      const [header, ...rows] = parse(text.replace(/^\ufeff/, ""));
      const at = Object.fromEntries(COLUMNS.map((name) => [name, header.indexOf(name)]));
      if ((at.path < 0 && at.content_hash < 0) || at.decision < 0) {
        throw new Error("This is not a file of decisions: its first line must name path or content_hash, and decision.");
      }
      let loaded = 0;
      const unmatched = [];
      for (const row of rows) {
        const get = (name) => (at[name] < 0 ? "" : plain(row[at[name]] || ""));
        if (!ALL_KINDS.includes(get("decision"))) continue;
        const path = pathOf(get("path"), get("content_hash").toLowerCase());
        if (path === null) {
          unmatched.push(get("path") || get("content_hash"));
          continue;
        }
        taken[path] = { decision: get("decision"), note: get("note"), date: get("date") || today(), by: get("by") };
        loaded++;
      }
      keep();
      return { loaded, unmatched };
    },
  };
})();

// Buttons, a note and a player for one track.
window.decisionBox = (path, link, ranges, make) => {
  const box = make("div", "decide");
  for (const [kind, label] of Object.entries(KINDS_OF_DECISION)) {
    const button = make("button", "choice", label);
    button.type = "button";
    button.dataset.kind = kind;
    button.addEventListener("click", () => window.decisions.take(path, (window.decisions.of(path) || {}).decision === kind ? "" : kind));
    box.append(button);
  }
  const note = make("input", "note-of");
  note.type = "text";
  note.maxLength = 1000;
  note.placeholder = "Note";
  note.setAttribute("aria-label", "Note");
  note.value = (window.decisions.of(path) || {}).note || "";
  note.addEventListener("change", () => window.decisions.take(path, null, note.value));
  box.append(note);
  const show = () => box.querySelectorAll(".choice").forEach((button) =>
    button.setAttribute("aria-pressed", String((window.decisions.of(path) || {}).decision === button.dataset.kind)));
  window.decisions.onChange(show);
  show();
  if (link) {
    const player = make("audio", "player");
    player.controls = true;
    player.preload = "none";
    player.src = link + (ranges.length ? `#t=${ranges[0][0]},${ranges[0][1]}` : "");
    box.append(player);
  }
  return box;
};
