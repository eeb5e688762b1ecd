/// A matrix of float32 in row-major order.
package struct FloatMatrix: Sendable {
    package let rows: Int
    package let columns: Int
    /// [rows · columns]
    package var elements: [Float]

    /// A matrix of zeros.
    package init(rows: Int, columns: Int) {
        self.init(rows: rows, columns: columns, elements: [Float](repeating: 0, count: rows * columns))
    }

    /// Traps unless there are rows · columns elements.
    package init(rows: Int, columns: Int, elements: [Float]) {
        precondition(rows >= 0 && columns >= 0 && elements.count == rows * columns, "as many elements as the shape has")
        self.rows = rows
        self.columns = columns
        self.elements = elements
    }

    package subscript(row: Int, column: Int) -> Float {
        get {
            precondition(column >= 0 && column < columns)
            return elements[row * columns + column]
        }
        set {
            precondition(column >= 0 && column < columns)
            elements[row * columns + column] = newValue
        }
    }

    /// Rows and columns exchanged.
    package func transposed() -> FloatMatrix {
        var result = FloatMatrix(rows: columns, columns: rows)
        let source = elements.span
        // In squares that fit the first cache.
        let side = 32
        var target = result.elements.mutableSpan
        for top in stride(from: 0, to: rows, by: side) {
            for left in stride(from: 0, to: columns, by: side) {
                for row in top..<min(top + side, rows) {
                    for column in left..<min(left + side, columns) {
                        target[column * rows + row] = source[row * columns + column]
                    }
                }
            }
        }
        return result
    }

    /// Blocks of whole rows for `forEachBlock`: places that depend on the shape alone, never on a number of threads.
    static func rowBlocks(rows: Int, columns: Int, size: Int? = nil) -> [Range<Int>] {
        // Large enough that copying the other factor into OpenBLAS's own order is paid for.
        let size = size ?? min(512, max(128, (rows / 4).roundedUp(to: 16)))
        return stride(from: 0, to: rows, by: size).map { $0 * columns..<min($0 + size, rows) * columns }
    }
}
