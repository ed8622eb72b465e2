// The value is the format that was chosen.
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-format]");
  if (!button) return;
  props.value = button.dataset.format;
  trigger("input");
});
