// What this browser remembers between visits: the ids of the avatars that are being worked on, and the owner's tokens
// of those that are shared. Always read anew before writing, since other tabs of the same browser write, too.
(() => {
  const AVATARS = "flexavatar-avatars";
  const SHARED = "flexavatar-shared";
  const MAX_AVATARS = 12;
  const MAX_SHARED = 200;

  // Storage may be switched off, for instance in a frame of another site; then nothing is remembered.
  const read = (key, otherwise) => {
    try {
      return JSON.parse(localStorage.getItem(key)) ?? otherwise;
    } catch {
      return otherwise;
    }
  };
  const write = (key, value) => {
    try {
      localStorage.setItem(key, JSON.stringify(value));
    } catch {}
    return value;
  };

  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Not allowed in every frame; the old way is.
      const field = Object.assign(document.createElement("textarea"), { value: text });
      document.body.append(field);
      field.select();
      const done = document.execCommand("copy");
      field.remove();
      return done;
    }
  };

  window.flexavatarKept = {
    avatars: () => read(AVATARS, []),
    shared: () => read(SHARED, {}),
    keepAvatars: (ids) =>
      write(AVATARS, [...read(AVATARS, []).filter((id) => !ids.includes(id)), ...ids].slice(-MAX_AVATARS)),
    dropAvatar: (dropped) => write(AVATARS, read(AVATARS, []).filter((id) => id !== dropped)),
    // {id: token} in the order of sharing.
    keepShared: ({ id, token }) =>
      write(SHARED, Object.fromEntries([...Object.entries(read(SHARED, {})), [id, token]].slice(-MAX_SHARED))),
    dropShared: (dropped) =>
      write(SHARED, Object.fromEntries(Object.entries(read(SHARED, {})).filter(([id]) => id !== dropped))),
  };

  // Buttons with data-copy copy that address, made absolute, wherever they are on the page.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    const label = (button.dataset.label ??= button.textContent);
    button.textContent = (await copy(new URL(button.dataset.copy, location).href)) ? "Copied" : "Press Ctrl+C";
    clearTimeout(button.waiting);
    button.waiting = setTimeout(() => (button.textContent = label), 1800);
  });
})();
