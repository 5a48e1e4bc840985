/**
 * Preloaded into a program under test (`node --import`): each SIGUSR2 sets its wall clock by the next number of
 * `CLOCK_JUMPS_MS` (`a,b,...`), as an operator or NTP does. Timers are not moved, as on a real machine.
 */
const jumpsMs = (process.env['CLOCK_JUMPS_MS'] ?? '').split(',').map(Number);
const RealDate = Date;
let shiftMs = 0;
let jumpCount = 0;

class ShiftedDate extends RealDate {
  constructor(...values: readonly [] | ConstructorParameters<typeof Date>) {
    if (values.length === 0) super(RealDate.now() + shiftMs);
    else super(...values);
  }

  static override now(): number {
    return RealDate.now() + shiftMs;
  }
}

globalThis.Date = ShiftedDate as DateConstructor;

process.on('SIGUSR2', () => {
  shiftMs += jumpsMs[jumpCount] ?? 0;
  jumpCount += 1;
  process.stderr.write(`clock jump ${jumpCount} to ${new Date().toISOString()}\n`);
});
