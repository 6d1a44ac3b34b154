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
