// Line icons on a 24 px grid.

const PATHS = {
  rotate: "M20 11a8 8 0 1 0-2.3 5.7M20 5v6h-6",
  front: "M4 9V5a1 1 0 0 1 1-1h4M15 4h4a1 1 0 0 1 1 1v4M20 15v4a1 1 0 0 1-1 1h-4M9 20H5a1 1 0 0 1-1-1v-4M9 10v.5M15 10v.5M9.5 14.5c1.4 1.3 3.6 1.3 5 0",
  shot: "M4 8.5A1.5 1.5 0 0 1 5.5 7H8l1.4-2.2h5.2L16 7h2.5a1.5 1.5 0 0 1 1.5 1.5v9A1.5 1.5 0 0 1 18.5 19h-13A1.5 1.5 0 0 1 4 17.5zM12 16a3.2 3.2 0 1 0 0-6.4 3.2 3.2 0 0 0 0 6.4z",
  full: "M9 4H4v5M15 4h5v5M20 15v5h-5M4 15v5h5",
  panel: "M4 7h9M17 7h3M4 17h3M11 17h9M15 4.8v4.4M9 14.8v4.4",
} as const;

export function setIcon(button: HTMLElement, name: keyof typeof PATHS): void {
  button.innerHTML = `<svg viewBox="0 0 24 24" width="20" height="20" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="1.7" stroke-linecap="round" stroke-linejoin="round"><path d="${PATHS[name]}"/></svg>`;
  button.title = button.getAttribute("aria-label") ?? "";
}
