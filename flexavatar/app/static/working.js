// Removes an avatar that is being worked on: the value is its id.
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  props.value = button.closest("[data-id]").dataset.id;
  trigger("submit");
});
