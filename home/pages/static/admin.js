// piccolo-admin's "Export CSV" makes the file in the browser, with whatever formulas people have put
// into their names. The server makes it without, of the same list: its table, filters and order
// are those with which the page has last asked for rows.
let list = null;

new PerformanceObserver((seen) => {
  for (const { name } of seen.getEntries()) {
    const url = new URL(name);
    const table = url.pathname.match(/\/api\/tables\/(\w+)\/$/)?.[1];
    if (table && url.searchParams.has("__page")) list = { table, search: url.search };
  }
}).observe({ type: "resource", buffered: true });

document.addEventListener("click", (event) => {
  if (!event.target.closest('[data-uitest="csv_button"]')) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  if (!list) return;
  const link = document.createElement("a");
  link.href = `export/${list.table}.csv${list.search}`;
  link.target = "_blank";  // where a refusal can be read
  link.click();
}, true);

// When a session has ended, piccolo-admin shows a sign-in page of its own. The application's leads back
// to the same place. Its router changes the address without an event: look when the page changes.
new MutationObserver(() => {
  const [route, query] = location.hash.split("?");
  if (!route.startsWith("#/login")) return;
  const place = new URLSearchParams(query).get("nextURL") ?? "/";
  location.replace(`/sign-in?next=/admin/#${place}`);
}).observe(document.documentElement, { childList: true, subtree: true });

// Refusals: its page shows "undefined", "Invalid column name or value" or raw JSON. The server's sentence
// is in the answer.
let refusal = "";
const said = new Set(); // texts that were vague; its page leaves them as they are when it says the same again

function sentenceOf(text) {
  try {
    const { error, detail, custom_form_error } = JSON.parse(text);
    return error?.message ?? custom_form_error ?? (typeof detail === "string" ? detail : "");
  } catch {
    return "";
  }
}

const { open } = XMLHttpRequest.prototype;
XMLHttpRequest.prototype.open = function (...given) {
  this.addEventListener("load", () => {
    if (this.status < 400 || !["", "text"].includes(this.responseType)) return;
    refusal = sentenceOf(this.responseText);
    for (const node of said) node.isConnected && refusal ? node.data = refusal : said.delete(node);
  });
  return open.apply(this, given);
};

const VAGUE = /^(Error - undefined|Invalid column name or value|Unable to delete the row\.)$/;
const JSON_IN_TEXT = /\{"(error|detail|custom_form_error)":.*\}/s;

function showRefusals() {
  for (const place of document.querySelectorAll("#message_popup p, li")) {
    for (const node of place.childNodes) {
      if (node.nodeType !== Node.TEXT_NODE) continue;
      const text = node.data.trim();
      if (refusal && VAGUE.test(text)) {
        node.data = refusal;
        said.add(node);
      }
      const json = text.match(JSON_IN_TEXT)?.[0];
      const sentence = json && sentenceOf(json);
      if (sentence) node.data = text.replace(json, () => sentence);
    }
  }
}

// Buttons for what is refused anyway; admin.css hides them.
const REFUSED = document.currentScript.dataset.refused.split(" ").map((each) => each.split(":"));

function hideWhatIsRefused() {
  const table = location.hash.match(/^#\/(\w+)/)?.[1];
  const refused = REFUSED.filter(([name]) => name === table).map(([, action]) => action).join(" ");
  if (document.body.dataset.refused !== refused) document.body.dataset.refused = refused;
}

// Columns in which yes is no good news.
const ALARMS = ["needs attention", "is disabled"];

function markAlarms() {
  for (const table of document.querySelectorAll("table")) {
    const places = [...table.querySelectorAll("thead th")].flatMap((head, place) =>
      ALARMS.includes(head.textContent.trim().toLowerCase()) ? [place] : []);
    for (const row of places.length ? table.querySelectorAll("tbody tr") : []) {
      for (const place of places) {
        const cell = row.children[place];
        const answer = cell?.querySelector("svg.correct") ? "yes" : cell?.querySelector("svg.incorrect") ? "no" : "";
        if (answer && cell.dataset.alarm !== answer) cell.dataset.alarm = answer;
      }
    }
  }
}

// Its field for times goes on showing the time of the row before where this one has none. What will be
// saved is in a hidden field beside it.
function emptyStaleTimes() {
  for (const shown of document.querySelectorAll("input[type=datetime-local]")) {
    const saved = shown.parentElement.parentElement.querySelector(":scope > input[type=hidden]");
    if (saved && !saved.value && shown.value && shown !== document.activeElement) shown.value = "";
  }
}

setInterval(() => {
  showRefusals();
  hideWhatIsRefused();
  markAlarms();
  emptyStaleTimes();
}, 150);
// The page of a row has no history: a link leads to the trail's, which knows the row by its key. It
// stands outside of what piccolo-admin draws, and draws anew.
new MutationObserver(() => {
  const [, table, key] = location.hash.match(/^#\/([\w.]+)\/([^/?]+)$/) ?? [];
  const has = table && key !== "add" && table !== "forms" && !table.startsWith("audit_");
  const place = has ? `/trail/of/${table}/${key}` : null;
  const shown = document.getElementById("life");
  if ((shown?.getAttribute("href") ?? null) === place) return;
  shown?.remove();
  if (!place) return;
  const link = document.createElement("a");
  link.id = "life";
  link.href = place;
  link.textContent = "Its life in the trail";
  link.style.cssText = "position: fixed; right: 1rem; bottom: 1rem; padding: .4rem .7rem;"
    + " color: #0f6b5c; background: #fff; border: 1px solid; border-radius: 6px";
  document.body.append(link);
}).observe(document.documentElement, { childList: true, subtree: true });
