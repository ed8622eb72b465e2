// The avatar as a Spark mesh whose splats are posed on the GPU.
//
// Every splat has a list of (target, delta) entries in a texture. A modifier of Spark's splat pipeline sums those whose
// weight is not zero, turns the torso about the neck, and hands the result on to Spark, which sorts what it gets.

import { ExtSplats, SplatMesh, dyno } from "@sparkjsdev/spark";
import * as THREE from "three";
import type { Bundle, Group } from "./bundle";

const WIDTH = 2048; // texels in a row of the data textures

export class AvatarMesh {
  readonly mesh: SplatMesh;
  readonly entries: number; // deltas of all splats
  private readonly weights: Float32Array; // [targets]
  private readonly weightTexture: THREE.DataTexture;
  private readonly torsoTurn: dyno.DynoVec4<THREE.Quaternion, string>;
  private readonly textures: THREE.Texture[] = [];

  constructor(readonly bundle: Bundle) {
    const entries = packed(bundle);
    this.entries = entries.count;
    this.weights = new Float32Array(bundle.blendshapes.length + bundle.correctives.length);
    this.weightTexture = new THREE.DataTexture(
      this.weights,
      this.weights.length,
      1,
      THREE.RedFormat,
      THREE.FloatType,
    );
    this.weightTexture.needsUpdate = true;
    this.torsoTurn = dyno.dynoVec4(new THREE.Quaternion());

    const lists = this.texture(entries.lists, 4);
    const shifts = this.texture(entries.shifts, 4);
    const turns = this.texture(entries.turns, 2);
    const tints = this.texture(entries.tints, 2);
    const groups = bundle.deltas;
    const modifier = poseModifier(groups.rotations !== undefined, (groups.colors ?? groups.opacities) !== undefined, {
      lists: dyno.dynoUsampler2D(lists),
      shifts: dyno.dynoUsampler2D(shifts),
      turns: dyno.dynoUsampler2D(turns),
      tints: dyno.dynoUsampler2D(tints),
      weights: dyno.dynoSampler2D(this.weightTexture),
      torsoTurn: this.torsoTurn,
      neck: dyno.dynoVec3(new THREE.Vector3(...bundle.neckJoint)),
      minimumScale: dyno.dynoFloat(bundle.minimumScale),
    });
    this.mesh = new SplatMesh({ extSplats: baseSplats(bundle), objectModifier: modifier, raycastable: false });
  }

  /** Pose the splats: weights [52] in the order of the bundle, and the head's rotation relative to the torso. */
  pose(blendshapes: ArrayLike<number>, headRotation: THREE.Quaternion): void {
    const { correctives, blendshapes: names, neckJoint } = this.bundle;
    for (let i = 0; i < names.length; i++) this.weights[i] = Math.min(Math.max(blendshapes[i] ?? 0, 0), 1);
    correctives.forEach((factors, i) => {
      this.weights[names.length + i] = factors.reduce((product, factor) => product * this.weights[factor]!, 1);
    });
    this.weightTexture.needsUpdate = true;
    this.torsoTurn.value.copy(headRotation).invert();
    // The modifier keeps the head still and turns the torso; this motion then puts the torso back and turns the head.
    const joint = new THREE.Vector3(...neckJoint);
    this.mesh.quaternion.copy(headRotation);
    this.mesh.position.copy(joint).sub(joint.clone().applyQuaternion(headRotation));
    this.mesh.updateVersion();
  }

  dispose(): void {
    this.mesh.removeFromParent();
    this.mesh.dispose();
    for (const texture of [...this.textures, this.weightTexture]) texture.dispose();
  }

  private texture(data: Uint32Array, channels: 2 | 4): THREE.DataTexture {
    const height = Math.max(Math.ceil(data.length / channels / WIDTH), 1);
    const padded = new Uint32Array(WIDTH * height * channels);
    padded.set(data);
    const format = channels === 4 ? THREE.RGBAIntegerFormat : THREE.RGIntegerFormat;
    const texture = new THREE.DataTexture(padded, WIDTH, height, format, THREE.UnsignedIntType);
    texture.internalFormat = channels === 4 ? "RGBA32UI" : "RG32UI";
    texture.needsUpdate = true;
    this.textures.push(texture);
    return texture;
  }
}

function baseSplats(bundle: Bundle): ExtSplats {
  const n = bundle.splats;
  const { means, scales, quats, opacities, colors } = bundle;
  const splats = new ExtSplats({ maxSplats: n });
  const center = new THREE.Vector3();
  const scale = new THREE.Vector3();
  const quat = new THREE.Quaternion();
  const color = new THREE.Color();
  const at = (values: Float32Array, row: number, i: number) => values[row * n + i]!;
  for (let i = 0; i < n; i++) {
    center.set(at(means.values, 0, i), at(means.values, 1, i), at(means.values, 2, i));
    scale.set(at(scales.values, 0, i), at(scales.values, 1, i), at(scales.values, 2, i));
    const q = quats.values;
    quat.set(at(q, 1, i), at(q, 2, i), at(q, 3, i), at(q, 0, i)).normalize();
    color.setRGB(at(colors.values, 0, i), at(colors.values, 1, i), at(colors.values, 2, i), "");
    splats.pushSplat(center, scale, quat, opacities.values[i]!, color);
  }
  // Textures are made from finished arrays only.
  return new ExtSplats({ extArrays: splats.extArrays, numSplats: n });
}

interface Entries {
  count: number;
  lists: Uint32Array; // [N, 4]: first entry, number of entries, torso weight as float bits, unused
  shifts: Uint32Array; // [E, 4]: mean xy, mean z and scale x, scale yz as halves; target
  turns: Uint32Array; // [E, 2]: rotation vector as halves; empty without rotations
  tints: Uint32Array; // [E, 2]: red and green, blue and opacity as halves; empty without colours and opacities
}

/** Group the deltas of all targets by splat. */
function packed(bundle: Bundle): Entries {
  const n = bundle.splats;
  const targets = bundle.blendshapes.length + bundle.correctives.length;
  const groups = Object.entries(bundle.deltas) as [Group, NonNullable<Bundle["deltas"][Group]>][];
  const most = groups.reduce((sum, [, group]) => sum + group.splats.length, 0);
  const splatOf = new Uint32Array(most);
  const targetOf = new Uint32Array(most);
  const entryOf = groups.map(([, group]) => new Uint32Array(group.splats.length));
  const slot = new Uint32Array(n);
  const stamp = new Uint32Array(n);
  const cursors = groups.map(() => 0);
  let count = 0;
  for (let target = 0; target < targets; target++) {
    groups.forEach(([, group], g) => {
      const end = cursors[g]! + group.counts[target]!;
      for (let k = cursors[g]!; k < end; k++) {
        const splat = group.splats[k]!;
        if (stamp[splat] !== target + 1) {
          stamp[splat] = target + 1;
          slot[splat] = count;
          splatOf[count] = splat;
          targetOf[count] = target;
          count++;
        }
        entryOf[g]![k] = slot[splat]!;
      }
      cursors[g] = end;
    });
  }

  const lists = new Uint32Array(n * 4);
  const torso = new Float32Array(lists.buffer);
  for (let e = 0; e < count; e++) lists[splatOf[e]! * 4 + 1]!++;
  for (let i = 0, first = 0; i < n; i++) {
    lists[i * 4] = first;
    first += lists[i * 4 + 1]!;
    torso[i * 4 + 2] = bundle.torsoWeights.values[i]!;
  }
  const next = Uint32Array.from({ length: n }, (_, i) => lists[i * 4]!);
  const place = new Uint32Array(count);
  for (let e = 0; e < count; e++) place[e] = next[splatOf[e]!]!++;

  const shifts = new Uint32Array(count * 4);
  const turns = new Uint32Array(bundle.deltas.rotations ? count * 2 : 0);
  const tints = new Uint32Array(bundle.deltas.colors || bundle.deltas.opacities ? count * 2 : 0);
  const half = (words: Uint32Array, index: number, value: number) => {
    words[index >> 1]! |= THREE.DataUtils.toHalfFloat(value) << ((index & 1) * 16);
  };
  for (let e = 0; e < count; e++) shifts[place[e]! * 4 + 3] = targetOf[e]!;
  groups.forEach(([name, group], g) => {
    const { values, columns } = group.values;
    for (let row = 0; row * columns < values.length; row++) {
      for (let k = 0; k < columns; k++) {
        const at = place[entryOf[g]![k]!]!;
        const value = values[row * columns + k]!;
        if (name === "means") half(shifts, at * 8 + row, value);
        else if (name === "scales") half(shifts, at * 8 + 3 + row, value);
        else if (name === "rotations") half(turns, at * 4 + row, value);
        else if (name === "colors") half(tints, at * 4 + row, value);
        else half(tints, at * 4 + 3, value);
      }
    }
  });
  return { count, lists, shifts, turns, tints };
}

type Inputs = {
  lists: "usampler2D";
  shifts: "usampler2D";
  turns: "usampler2D";
  tints: "usampler2D";
  weights: "sampler2D";
  torsoTurn: "vec4";
  neck: "vec3";
  minimumScale: "float";
};

function poseModifier(turning: boolean, tinting: boolean, values: { [Key in keyof Inputs]: dyno.DynoVal<Inputs[Key]> }) {
  return dyno.dynoBlock({ gsplat: dyno.Gsplat }, { gsplat: dyno.Gsplat }, ({ gsplat }) => {
    const pose = dyno.dyno({
      inTypes: {
        gsplat: dyno.Gsplat,
        lists: "usampler2D",
        shifts: "usampler2D",
        turns: "usampler2D",
        tints: "usampler2D",
        weights: "sampler2D",
        torsoTurn: "vec4",
        neck: "vec3",
        minimumScale: "float",
      },
      outTypes: { gsplat: dyno.Gsplat },
      inputs: { gsplat: gsplat!, ...values },
      globals: () => [POSE_FUNCTIONS],
      statements: ({ inputs: i, outputs: o }) =>
        dyno.unindentLines(`
          ${o.gsplat} = ${i.gsplat};
          uvec4 list = texelFetch(${i.lists}, flexTexel(uint(${i.gsplat}.index)), 0);
          vec3 shift = vec3(0.0), grow = vec3(0.0), turn = vec3(0.0);
          vec4 tint = vec4(0.0);
          for (uint e = list.x; e < list.x + list.y; e++) {
            ivec2 at = flexTexel(e);
            uvec4 shifted = texelFetch(${i.shifts}, at, 0);
            float weight = texelFetch(${i.weights}, ivec2(shifted.w, 0), 0).r;
            if (weight == 0.0) continue;
            vec2 zx = unpackHalf2x16(shifted.y);
            shift += weight * vec3(unpackHalf2x16(shifted.x), zx.x);
            grow += weight * vec3(zx.y, unpackHalf2x16(shifted.z));
            ${turning ? sum(i.turns!, "turn", "vec3(unpackHalf2x16(pair.x), unpackHalf2x16(pair.y).x)") : ""}
            ${tinting ? sum(i.tints!, "tint", "vec4(unpackHalf2x16(pair.x), unpackHalf2x16(pair.y))") : ""}
          }
          vec3 center = ${i.gsplat}.center + shift;
          float torso = uintBitsToFloat(list.z);
          vec3 turned = quatVec(${i.torsoTurn}, center - ${i.neck}) + ${i.neck};
          ${o.gsplat}.center = mix(center, turned, torso);
          ${o.gsplat}.scales = max(${i.gsplat}.scales + grow, vec3(${i.minimumScale}));
          ${o.gsplat}.rgba = clamp(${i.gsplat}.rgba + tint, 0.0, 1.0);
          vec4 posed = quatQuat(flexExp(turn), ${i.gsplat}.quaternion);
          ${o.gsplat}.quaternion = normalize(quatQuat(flexPart(${i.torsoTurn}, torso), posed));
        `),
    });
    return { gsplat: pose.outputs.gsplat };
  });
}

function sum(texture: string, total: string, value: string): string {
  return `{ uvec4 pair = texelFetch(${texture}, at, 0); ${total} += weight * ${value}; }`;
}

const POSE_FUNCTIONS = dyno.unindent(`
  ivec2 flexTexel(uint index) {
    return ivec2(index & ${WIDTH - 1}u, index >> ${Math.log2(WIDTH)}u);
  }
  // Quaternion xyzw of a rotation vector.
  vec4 flexExp(vec3 turn) {
    float angle = length(turn);
    return angle < 1e-4 ? vec4(0.5 * turn, 1.0) : vec4(turn / angle * sin(0.5 * angle), cos(0.5 * angle));
  }
  // The share of a rotation: slerp from the identity.
  vec4 flexPart(vec4 q, float share) {
    q = q.w < 0.0 ? -q : q;
    float sine = length(q.xyz);
    if (sine < 1e-5) return vec4(share * q.xyz, 1.0);
    float angle = share * atan(sine, q.w);
    return vec4(q.xyz / sine * sin(angle), cos(angle));
  }
`);
