// Reader of .flexbundle files; docs/bundle.md describes the format.

export interface Array2 {
  /** Planar [rows, columns] float values. */
  values: Float32Array;
  columns: number;
}

/** One group of sparse deltas: for each target the splats that it changes, and by how much. */
export interface Deltas {
  counts: Uint32Array; // [targets]
  splats: Uint32Array; // [M]
  values: Array2; // [components, M]
}

export const GROUPS = ["means", "rotations", "scales", "colors", "opacities"] as const;
export type Group = (typeof GROUPS)[number];

export interface BundleCamera {
  fieldOfView: number; // degrees, vertical
  viewHeight: number; // metres
  center: [number, number, number];
  background: [number, number, number];
}

export interface Bundle {
  splats: number;
  blendshapes: string[];
  correctives: number[][]; // indices of the blendshapes whose weights are multiplied
  minimumScale: number;
  neckJoint: [number, number, number];
  camera: BundleCamera;
  licence: string;
  metadata: Record<string, unknown>;
  bytes: number;
  means: Array2; // [3, N]
  quats: Array2; // [4, N] w, x, y, z
  scales: Array2; // [3, N]
  opacities: Array2; // [1, N]
  colors: Array2; // [3, N]
  torsoWeights: Array2; // [1, N]
  deltas: Partial<Record<Group, Deltas>>;
}

/** The file is not a bundle that this viewer can show; the message says what to do. */
export class BadBundle extends Error {}

const VERSION = 1;
const BASE = { means: 3, quats: 4, scales: 3, opacities: 1, colors: 3, torso_weights: 1 } as const;
const COMPONENTS: Record<Group, number> = { means: 3, rotations: 3, scales: 3, colors: 3, opacities: 1 };
const TYPES = {
  uint8: Uint8Array,
  int8: Int8Array,
  uint16: Uint16Array,
  int16: Int16Array,
  uint32: Uint32Array,
  float32: Float32Array,
} as const;
type TypedArray = InstanceType<(typeof TYPES)[keyof typeof TYPES]>;

interface Entry {
  dtype: keyof typeof TYPES;
  shape: number[];
  offset: number;
  coding: "plain" | "differences";
  scale?: number[];
  bias?: number[];
}

export async function readBundle(file: ArrayBuffer): Promise<Bundle> {
  const data = await inflated(file);
  const view = new DataView(data);
  if (data.byteLength < 12 || view.getUint32(0, true) !== 0x42584c46) {
    throw new BadBundle("This file is not an avatar bundle. Choose a .flexbundle file.");
  }
  if (view.getUint32(4, true) > VERSION) {
    throw new BadBundle("This avatar was made for a newer viewer. Reload the page, or update FlexAvatar.");
  }
  const start = 12 + view.getUint32(8, true);
  const header = parsed(new Uint8Array(data, 12, Math.min(start, data.byteLength) - 12));
  if (data.byteLength !== start + header.binary_bytes) throw damaged("its length is wrong");
  const count: number = header.splats;
  const names: string[] = header.blendshapes;
  if (!Number.isInteger(count) || count < 1 || !Array.isArray(names)) throw damaged("its header is incomplete");

  const typed = (name: string): { values: TypedArray; entry: Entry } => {
    const entry: Entry | undefined = header.arrays?.[name];
    if (!entry || !(entry.dtype in TYPES)) throw damaged(`${name} is missing`);
    const type = TYPES[entry.dtype];
    const length = entry.shape.reduce((a, b) => a * b, 1);
    if (entry.offset < 0 || entry.offset + length * type.BYTES_PER_ELEMENT > header.binary_bytes) {
      throw damaged(`${name} is cut off`);
    }
    const from = start + entry.offset;
    const values: TypedArray = new type(data.slice(from, from + length * type.BYTES_PER_ELEMENT));
    if (entry.coding === "differences") accumulate(values, entry.shape[entry.shape.length - 1] ?? 0);
    return { values, entry };
  };

  const floats = (name: string, rows: number, columns: number): Array2 => {
    const { values, entry } = typed(name);
    if (entry.shape[0] !== rows || entry.shape[1] !== columns) throw damaged(`${name} has the wrong size`);
    const result = new Float32Array(values.length);
    for (let row = 0; row < rows; row++) {
      const scale = entry.scale?.[row] ?? 1;
      const bias = entry.bias?.[row] ?? 0;
      for (let i = row * columns; i < (row + 1) * columns; i++) result[i] = bias + scale * values[i]!;
    }
    return { values: result, columns };
  };

  const correctives: number[][] = (header.correctives ?? []).map((factors: string[]) =>
    factors.map((name) => {
      const index = names.indexOf(name);
      if (index < 0) throw damaged(`the corrective of ${name} belongs to no blendshape`);
      return index;
    }),
  );
  const targets = names.length + correctives.length;
  const deltas: Partial<Record<Group, Deltas>> = {};
  for (const group of GROUPS) {
    if (!header.arrays?.[`deltas/${group}/counts`]) continue;
    const counts = Uint32Array.from(typed(`deltas/${group}/counts`).values);
    const splats = Uint32Array.from(typed(`deltas/${group}/splats`).values);
    if (counts.length !== targets || counts.reduce((a, b) => a + b, 0) !== splats.length) {
      throw damaged(`the deltas of ${group} do not fit`);
    }
    if (splats.some((splat) => splat >= count)) throw damaged(`the deltas of ${group} point nowhere`);
    deltas[group] = { counts, splats, values: floats(`deltas/${group}/values`, COMPONENTS[group], splats.length) };
  }
  const base = (name: keyof typeof BASE) => floats(name, BASE[name], count);
  return {
    splats: count,
    blendshapes: names,
    correctives,
    minimumScale: header.minimum_scale ?? 1e-5,
    neckJoint: header.neck_joint,
    camera: {
      fieldOfView: header.camera.field_of_view,
      viewHeight: header.camera.view_height,
      center: header.camera.center,
      background: header.camera.background,
    },
    licence: header.licence ?? "",
    metadata: header.metadata ?? {},
    bytes: file.byteLength,
    means: base("means"),
    quats: base("quats"),
    scales: base("scales"),
    opacities: base("opacities"),
    colors: base("colors"),
    torsoWeights: base("torso_weights"),
    deltas,
  };
}

async function inflated(file: ArrayBuffer): Promise<ArrayBuffer> {
  const head = new Uint8Array(file, 0, Math.min(2, file.byteLength));
  if (head[0] !== 0x1f || head[1] !== 0x8b) return file; // a server may have unpacked it already
  try {
    const stream = new Blob([file]).stream().pipeThrough(new DecompressionStream("gzip"));
    return await new Response(stream).arrayBuffer();
  } catch {
    throw damaged("it cannot be unpacked");
  }
}

// The header is JSON of another program: typed loosely here, checked where it is used.
function parsed(bytes: Uint8Array): any {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw damaged("its header cannot be read");
  }
}

function accumulate(values: TypedArray, length: number): void {
  for (let start = 0; start < values.length; start += length) {
    for (let i = start + 1; i < start + length; i++) values[i] = values[i]! + values[i - 1]!;
  }
}

function damaged(why: string): BadBundle {
  return new BadBundle(`This avatar file is damaged: ${why}. Download or create it again.`);
}
