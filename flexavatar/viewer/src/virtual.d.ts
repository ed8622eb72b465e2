declare module "virtual:clips" {
  interface PackedClip {
    name: string;
    fps: number;
    weights: string; // base64 of bytes [frames, 52], 255 = 1
    angles: number[]; // [frames, 3] yaw, pitch, roll in 1/100 degree
  }
  const clips: PackedClip[];
  export default clips;
}
