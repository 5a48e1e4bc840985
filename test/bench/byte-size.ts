const units = [
  { name: 'GB', bytes: 1_000_000_000 },
  { name: 'MB', bytes: 1_000_000 },
  { name: 'KB', bytes: 1000 },
  { name: 'B', bytes: 1 },
] as const;

/** `1500000` as `1.5 MB`: decimal units. */
export function formatSize(sizeBytes: number): string {
  const unit = units.find(({ bytes }) => sizeBytes >= bytes) ?? units[units.length - 1];
  return unit === undefined ? `${sizeBytes} B` : `${sizeBytes / unit.bytes} ${unit.name}`;
}

/** `100KB`, `1 MB` or plain bytes; undefined when it is no positive whole number of bytes. */
export function parseSize(text: string): number | undefined {
  const [, digits = '', unitName = 'B'] = /^(\d+(?:\.\d+)?) ?(B|KB|MB|GB)?$/i.exec(text.trim()) ?? [];
  const unit = units.find(({ name }) => name === unitName.toUpperCase());
  const sizeBytes = Number(digits) * (unit?.bytes ?? 1);
  return Number.isSafeInteger(sizeBytes) && sizeBytes > 0 ? sizeBytes : undefined;
}
