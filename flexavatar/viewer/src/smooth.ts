// The One-Euro filter (Casiez et al. 2012): steady while a value rests, quick while it moves.

export class OneEuro {
  private value: Float32Array | undefined;
  private speed = new Float32Array(0);

  constructor(
    private readonly restCutoff: number, // Hz, at rest
    private readonly quickness: number, // Hz per unit of speed
    private readonly speedCutoff = 1, // Hz
  ) {}

  /** The smoothed values, given new ones and the seconds since the last call. */
  next(values: ArrayLike<number>, seconds: number): Float32Array {
    if (!this.value || seconds <= 0 || seconds > 1) {
      this.value = Float32Array.from(values);
      this.speed = new Float32Array(values.length);
      return this.value;
    }
    const known = this.value;
    const rate = share(this.speedCutoff, seconds);
    this.value = Float32Array.from(values, (value, i) => {
      this.speed[i] = this.speed[i]! + rate * ((value - known[i]!) / seconds - this.speed[i]!);
      const cutoff = this.restCutoff + this.quickness * Math.abs(this.speed[i]!);
      return known[i]! + share(cutoff, seconds) * (value - known[i]!);
    });
    return this.value;
  }

  reset(): void {
    this.value = undefined;
  }
}

function share(cutoff: number, seconds: number): number {
  const turn = 2 * Math.PI * cutoff * seconds;
  return turn / (turn + 1);
}
