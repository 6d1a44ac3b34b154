// Ticks on the list of people: all of a page, ranges with Shift, and how many there are.
let last = null;
const boxes = () => [...document.querySelectorAll('#people input[name="id"]')];

function count() {
  const every = boxes(), ticked = every.filter((box) => box.checked).length;
  const all = document.getElementById("all"), told = document.getElementById("ticked");
  if (all) {
    all.hidden = every.length === 0;
    all.checked = ticked > 0 && ticked === every.length;
    all.indeterminate = ticked > 0 && ticked < every.length;
  }
  if (told) told.textContent = ticked ? `${ticked} selected` : "";
  for (const button of document.querySelectorAll("button[data-ticked]")) {
    button.disabled = ticked === 0;
    button.querySelector("span").textContent = ticked || "selected";
  }
}

document.addEventListener("click", (event) => {
  const box = event.target;
  if (box.id === "all") {
    for (const each of boxes()) each.checked = box.checked;
  } else if (box.name === "id") {
    const every = boxes(), from = every.indexOf(last), to = every.indexOf(box);
    if (event.shiftKey && from >= 0) {
      for (const each of every.slice(Math.min(from, to), Math.max(from, to) + 1)) each.checked = box.checked;
    }
    last = box;
  } else return;
  count();
});
// A browser that goes back ticks what was ticked.
addEventListener("pageshow", count);
document.addEventListener("htmx:afterSwap", count);
