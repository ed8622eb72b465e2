// The expression sliders: 52 blendshapes and three head angles, grouped, with a search field.

import { BLENDSHAPES, headAngles, headRotation, type HeadAngles, type Pose } from "./expression";

const GROUPS: [title: string, prefixes: string[]][] = [
  ["Mouth", ["mouth"]],
  ["Jaw and tongue", ["jaw", "tongue"]],
  ["Eyes", ["eye"]],
  ["Brows", ["brow"]],
  ["Cheeks and nose", ["cheek", "nose"]],
];
const ANGLES: [key: keyof HeadAngles, label: string, most: number][] = [
  ["yaw", "Turn", 40],
  ["pitch", "Nod", 25],
  ["roll", "Tilt", 25],
];

interface Slider {
  row: HTMLElement;
  input: HTMLInputElement;
  output: HTMLOutputElement;
  words: string;
  show: (value: number) => void;
}

export class Sliders {
  private readonly shapes: Slider[] = [];
  private readonly angles: Slider[];
  private readonly groups: { box: HTMLDetailsElement; rows: Slider[] }[] = [];

  /** `onInput` gets the whole pose whenever the visitor moves a slider. */
  constructor(
    private readonly host: HTMLElement,
    private readonly onInput: (pose: Pose) => void,
  ) {
    for (const [title, prefixes] of GROUPS) {
      const names = BLENDSHAPES.filter((name) => prefixes.some((prefix) => name.startsWith(prefix)));
      const rows = names.map((name) => {
        const percent = (value: number) => `${Math.round(value * 100)} %`;
        return (this.shapes[BLENDSHAPES.indexOf(name)] = this.slider(words(name), 0, 1, 0.01, percent, name));
      });
      this.group(title, rows);
    }
    this.angles = ANGLES.map(([, label, most]) =>
      this.slider(label, -most, most, 1, (value) => `${Math.round(value)}°`, `head ${label}`),
    );
    this.group("Head", this.angles);
  }

  show(pose: Pose): void {
    this.shapes.forEach((slider, i) => slider.show(pose.weights[i]!));
    const angles = headAngles(pose.head);
    ANGLES.forEach(([key], i) => this.angles[i]!.show(angles[key]));
  }

  /** Keeps the sliders that hold all words of the query; returns how many. */
  search(query: string): number {
    const parts = query.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const { box, rows } of this.groups) {
      const fits = rows.filter(({ words, row }) => {
        const fit = parts.every((part) => words.includes(part));
        row.hidden = !fit;
        return fit;
      });
      box.hidden = fits.length === 0;
      box.open = parts.length > 0 && fits.length > 0;
      found += fits.length;
    }
    return found;
  }

  private pose(): Pose {
    const [yaw, pitch, roll] = this.angles.map(({ input }) => Number(input.value)) as [number, number, number];
    return {
      weights: Float32Array.from(this.shapes, ({ input }) => Number(input.value)),
      head: headRotation({ yaw, pitch, roll }),
    };
  }

  private group(title: string, rows: Slider[]): void {
    const box = document.createElement("details");
    const summary = document.createElement("summary");
    summary.textContent = title;
    box.append(summary, ...rows.map(({ row }) => row));
    this.host.append(box);
    this.groups.push({ box, rows });
  }

  private slider(
    label: string,
    least: number,
    most: number,
    step: number,
    format: (value: number) => string,
    keys: string,
  ): Slider {
    const row = document.createElement("label");
    row.className = "slider";
    const name = document.createElement("span");
    name.textContent = label;
    const output = document.createElement("output");
    const input = document.createElement("input");
    Object.assign(input, { type: "range", min: `${least}`, max: `${most}`, step: `${step}`, value: "0", name: keys });
    input.setAttribute("aria-label", label);
    row.append(name, output, input);
    const show = (value: number) => {
      const text = format(value);
      if (output.textContent === text) return;
      output.textContent = text;
      input.setAttribute("aria-valuetext", text);
      input.style.setProperty("--filled", `${(100 * (value - least)) / (most - least)}%`);
      input.value = `${value}`;
    };
    show(0);
    input.addEventListener("input", () => {
      show(Number(input.value));
      this.onInput(this.pose());
    });
    return { row, input, output, words: `${label} ${keys}`.toLowerCase(), show };
  }
}

/** "mouthSmileLeft" as "Smile left": the group already says where. */
function words(name: string): string {
  const parts = name.split(/(?=[A-Z])/);
  const said = name.startsWith("cheek") || name.startsWith("nose") || name === "tongueOut" || name.startsWith("jaw");
  const text = (said ? parts : parts.slice(1)).join(" ").toLowerCase();
  return text[0]!.toUpperCase() + text.slice(1);
}
