// A link is shown as an address that can be sent to others; the server does not always know its own.
watch("value", () => {
  for (const field of element.querySelectorAll("[data-address]")) {
    field.value = new URL(field.dataset.address, location).href;
  }
});
