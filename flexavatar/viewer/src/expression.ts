// What the face does: 52 ARKit blendshapes and the head's rotation relative to the torso.

import * as THREE from "three";
import data from "./expressions.json";

export const BLENDSHAPES: readonly string[] = data.blendshapes;
export const PRESETS: Readonly<Record<string, Readonly<Record<string, number>>>> = data.presets as Record<
  string,
  Record<string, number>
>;

/** Degrees: positive yaw turns to the subject's left, pitch looks down, roll tilts to the subject's right shoulder. */
export interface HeadAngles {
  yaw: number;
  pitch: number;
  roll: number;
}

export interface Pose {
  weights: Float32Array; // [52] 0..1
  head: THREE.Quaternion;
}

export function neutralPose(): Pose {
  return { weights: new Float32Array(BLENDSHAPES.length), head: new THREE.Quaternion() };
}

/** From named weights, or a list in ARKit's order. Throws for a name that ARKit has not. */
export function weightsOf(given: Readonly<Record<string, number>> | ArrayLike<number>): Float32Array {
  const weights = new Float32Array(BLENDSHAPES.length);
  const pairs: [number, number][] =
    "length" in given
      ? Array.from(given as ArrayLike<number>, (value, index) => [index, value])
      : Object.entries(given).map(([name, value]) => [BLENDSHAPES.indexOf(name), value]);
  for (const [index, value] of pairs) {
    if (index < 0 || index >= weights.length || !Number.isFinite(value)) {
      throw new Error("An expression is named ARKit blendshapes, such as jawOpen, with weights from 0 to 1.");
    }
    weights[index] = Math.min(Math.max(value, 0), 1);
  }
  return weights;
}

export function headRotation({ yaw, pitch, roll }: HeadAngles): THREE.Quaternion {
  const radians = (degrees: number) => THREE.MathUtils.degToRad(degrees);
  return new THREE.Quaternion().setFromEuler(new THREE.Euler(radians(pitch), radians(yaw), radians(roll), "YXZ"));
}

export function headAngles(rotation: THREE.Quaternion): HeadAngles {
  const euler = new THREE.Euler().setFromQuaternion(rotation, "YXZ");
  const degrees = (radians: number) => THREE.MathUtils.radToDeg(radians);
  return { yaw: degrees(euler.y), pitch: degrees(euler.x), roll: degrees(euler.z) };
}

/** The pose as a mirror shows it: left and right change places. */
export function mirrored(pose: Pose): Pose {
  const { x, y, z, w } = pose.head;
  return {
    weights: Float32Array.from(OPPOSITE, (other) => pose.weights[other]!),
    head: new THREE.Quaternion(x, -y, -z, w),
  };
}

const OPPOSITE = BLENDSHAPES.map((name) => {
  const other = name.endsWith("Left")
    ? name.replace(/Left$/, "Right")
    : name.endsWith("Right")
      ? name.replace(/Right$/, "Left")
      : name;
  return BLENDSHAPES.indexOf(other);
});
