// Actions on shared avatars. Deleting asks for a second press: windows that ask are not allowed in frames of other sites.
const act = (target, value) => {
  const id = target.closest("[data-id]").dataset.id;
  props.value = { id, action: target.dataset.action, value };
  trigger("submit");
};
element.addEventListener("change", (event) => {
  const { target } = event;
  if (!target.dataset.action || !target.value) return;
  act(target, target.value);
  if (target.dataset.action === "life") target.value = ""; // the first option tells the new date
});
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-action]");
  if (!button) return;
  if (button.classList.contains("sure")) return act(button, "");
  button.classList.add("sure");
  button.textContent = "Delete for good?";
  setTimeout(() => {
    button.classList.remove("sure");
    button.textContent = "Delete";
  }, 5000);
});
