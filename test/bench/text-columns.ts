/** Lines of a table from its cells: the first `textColumnCount` columns to the left, the others to the right. */
export function alignColumns(rows: readonly (readonly string[])[], textColumnCount: number): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map((row) =>
      row
        .map((cell, column) =>
          column < textColumnCount ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
