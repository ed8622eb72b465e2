// Cards to choose from. The value is the list of chosen ids; where several may be chosen, in the order of choosing.
const mark = () => {
  const chosen = props.value ?? [];
  const multiple = element.querySelector("[data-multiple]") !== null;
  for (const card of element.querySelectorAll("[data-id]")) {
    const place = chosen.indexOf(card.dataset.id);
    const number = card.querySelector("b");
    card.setAttribute("aria-pressed", place >= 0);
    number.hidden = !multiple || place < 0;
    number.textContent = number.hidden ? "" : place + 1;
  }
};
element.addEventListener("click", (event) => {
  const card = event.target.closest("[data-id]");
  if (!card) return;
  const id = card.dataset.id;
  const chosen = props.value ?? [];
  const others = chosen.filter((other) => other !== id);
  const multiple = element.querySelector("[data-multiple]") !== null;
  props.value = !multiple ? [id] : others.length < chosen.length ? others : [...chosen, id];
  mark();
  trigger("input");
});
watch(["value", "markup"], mark);
mark();
