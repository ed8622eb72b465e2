// Runs when the 3D view gets a new file. gsplat.js opens 0.5 rad above the head and has no setting for it, so lower the
// camera to eye level with the drag that a visitor would make (0.003 rad per pixel).
() => {
    const PIXELS = -0.5 / 0.003;
    let tries = 0;
    const level = () => {
        const canvas = document.querySelector("#viewer canvas");
        if (!canvas) {
            if (tries++ < 100) setTimeout(level, 100);
            return;
        }
        // The component builds its controls twice when it is mounted; the drag must meet the second.
        setTimeout(() => {
            const at = (type, y) => new MouseEvent(type, { clientX: 0, clientY: y, button: 0, bubbles: false });
            canvas.dispatchEvent(at("mousedown", 0));
            canvas.dispatchEvent(at("mousemove", Math.round(PIXELS)));
            window.dispatchEvent(at("mouseup", Math.round(PIXELS)));
        }, 300);
    };
    level();
}
