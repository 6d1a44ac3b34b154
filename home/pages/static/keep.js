// Keeps what was typed into form[data-keep] when the session had ended, until the same person is back.
const form = document.querySelector("form[data-keep]");
const key = `kept ${form.action}`, who = document.querySelector(".me span").textContent;
const fields = () => [...form.elements].filter((each) => each.type === "text");

const kept = JSON.parse(sessionStorage.getItem(key));
sessionStorage.removeItem(key);
if (kept?.who === who && document.referrer.startsWith(`${location.origin}/sign-in`)) {
  for (const each of fields()) each.value = kept.values[each.name] ?? each.value;
  const told = document.createElement("p");
  told.className = "told";
  told.setAttribute("role", "status");
  told.textContent = "You had been signed out. What you typed is here again, but not saved yet.";
  form.before(told);
}
form.addEventListener("submit", () => {
  const values = Object.fromEntries(fields().map((each) => [each.name, each.value]));
  sessionStorage.setItem(key, JSON.stringify({ who, values }));
});
