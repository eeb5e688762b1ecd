import LatheFormat

/// One forward pass: its values, and each operation of the graph over all tokens.
struct ReferencePass {
    /// A value [tokens, width]: some columns of a matrix, which several slices may share.
    struct Value {
        fileprivate var storage: FloatMatrix
        fileprivate var start: Int
        let width: Int

        init(_ matrix: FloatMatrix) {
            storage = matrix
            start = 0
            width = matrix.columns
        }

        func slice(start: Int, width: Int) -> Value {
            Value(storage: storage, start: self.start + start, width: width)
        }

        private init(storage: FloatMatrix, start: Int, width: Int) {
            self.storage = storage
            self.start = start
            self.width = width
        }

        /// The value by itself: its own memory where nothing else uses it, a copy where it is part of a wider matrix.
        consuming func asMatrix() -> FloatMatrix {
            guard width != storage.columns else {
                let result = storage
                // Else the reference that `self` still holds would make the first change a copy.
                _ = consume self
                return result
            }
            var result: [Float] = []
            result.reserveCapacity(storage.rows * width)
            for row in 0..<storage.rows {
                let first = row * storage.columns + start
                result.append(contentsOf: storage.elements[first..<first + width])
            }
            return FloatMatrix(rows: storage.rows, columns: width, elements: result)
        }
    }

    private let windows: [[Int32]]
    private let tokens: Int
    private let blas: BLAS
    private let threads: Int
    private var values: [Int: Value] = [:]
    /// How many operations are still to use each value.
    private var uses: [Int: Int]

    init(windows: [[Int32]], operations: [Operation], blas: BLAS, threads: Int) {
        self.windows = windows
        tokens = windows.reduce(0) { $0 + $1.count }
        self.blas = blas
        self.threads = threads
        uses = operations.reduce(into: [:]) { uses, operation in
            for input in operation.inputs { uses[input, default: 0] += 1 }
        }
    }

    subscript(value: Int) -> Value {
        get { values[value]! }
        set { values[value] = newValue }
    }

    /// The value for one of its uses; with the last one it leaves the pass, so that its memory can be used in place.
    mutating func take(_ value: Int) -> Value {
        uses[value]! -= 1
        return uses[value] == 0 ? values.removeValue(forKey: value)! : values[value]!
    }

    // MARK: Operations

    func embed(table: FloatMatrix, positions: FloatMatrix?) -> Value {
        let width = table.columns
        var elements: [Float] = []
        elements.reserveCapacity(tokens * width)
        for window in windows {
            for (position, id) in window.enumerated() {
                let row = Int(id) * width
                guard let positions else {
                    elements.append(contentsOf: table.elements[row..<row + width])
                    continue
                }
                for column in 0..<width {
                    elements.append(table.elements[row + column] + positions.elements[position * width + column])
                }
            }
        }
        return Value(FloatMatrix(rows: tokens, columns: width, elements: elements))
    }

    /// (x − mean)/√(variance + epsilon)·scale + shift of each row; mean and variance in float64.
    func layerNorm(_ input: consuming Value, scale: [Float], shift: [Float], epsilon: Float) -> Value {
        var result = input.asMatrix()
        let width = result.columns
        forEachBlock(
            of: &result.elements, FloatMatrix.rowBlocks(rows: tokens, columns: width, size: 64), threads: threads
        ) { _, rows in
            for start in stride(from: 0, to: rows.count, by: width) {
                var sum = 0.0
                for index in start..<start + width { sum += Double(rows[index]) }
                let mean = sum / Double(width)
                var squares = 0.0
                for index in start..<start + width {
                    let distance = Double(rows[index]) - mean
                    squares += distance * distance
                }
                let factor = 1 / (squares / Double(width) + Double(epsilon)).squareRoot()
                for column in 0..<width {
                    let normal = (Double(rows[start + column]) - mean) * factor
                    rows[start + column] = Float(normal * Double(scale[column]) + Double(shift[column]))
                }
            }
        }
        return Value(result)
    }

    func activate(_ input: consuming Value, _ activation: Activation) -> Value {
        var result = input.asMatrix()
        forEachBlock(
            of: &result.elements, FloatMatrix.rowBlocks(rows: tokens, columns: result.columns, size: 64),
            threads: threads
        ) { _, elements in ReferenceMath.activate(&elements, activation) }
        return Value(result)
    }

    func add(_ a: consuming Value, _ b: consuming Value) -> Value {
        var result = a.asMatrix()
        let other = b.asMatrix().elements
        let width = result.columns
        forEachBlock(
            of: &result.elements, FloatMatrix.rowBlocks(rows: tokens, columns: result.columns, size: 64),
            threads: threads
        ) { block, elements in
            let other = other.span.extracting(droppingFirst: block * 64 * width)
            for index in elements.indices { elements[index] += other[index] }
        }
        return Value(result)
    }

    /// Causal attention, each window by itself: softmax(scale·q·kᵀ)·v for each head.
    func attention(
        _ query: Value, _ key: Value, _ value: Value, heads: Int, headDimension: Int, scale: Float
    ) -> Value {
        var result = FloatMatrix(rows: tokens, columns: heads * headDimension)
        let width = result.columns
        let blocks = queryBlocks()
        forEachBlock(
            of: &result.elements, blocks.map { $0.rows.lowerBound * width..<$0.rows.upperBound * width },
            threads: threads
        ) { index, output in
            let (window, rows) = (blocks[index].window, blocks[index].rows)
            // The queries of a block see the keys up to its end; what is causal within the block is softmax's part.
            let seen = rows.upperBound - window
            var scores = [Float](repeating: 0, count: rows.count * seen)
            for head in 0..<heads {
                func factor(_ value: Value, from row: Int, isTransposed: Bool = false) -> BLAS.Factor {
                    BLAS.Factor(
                        elements: value.storage.elements,
                        offset: row * value.storage.columns + value.start + head * headDimension,
                        stride: value.storage.columns, isTransposed: isTransposed)
                }
                var span = scores.mutableSpan
                blas.multiply(
                    factor(query, from: rows.lowerBound), factor(key, from: window, isTransposed: true), m: rows.count,
                    n: seen, k: headDimension, alpha: scale, into: &span, stride: seen)
                for row in 0..<rows.count {
                    ReferenceMath.softmax(
                        &span, start: row * seen, count: rows.lowerBound + row - window + 1, width: seen)
                }
                blas.multiply(
                    .init(elements: scores, stride: seen), factor(value, from: window), m: rows.count,
                    n: headDimension, k: seen, into: &output, offset: head * headDimension, stride: width)
            }
        }
        return Value(result)
    }

    /// Up to 128 consecutive rows of one window each, with the row on which the window begins.
    private func queryBlocks() -> [(window: Int, rows: Range<Int>)] {
        var blocks: [(window: Int, rows: Range<Int>)] = []
        var start = 0
        for window in windows {
            for row in stride(from: 0, to: window.count, by: 128) {
                blocks.append((start, start + row..<start + min(row + 128, window.count)))
            }
            start += window.count
        }
        return blocks
    }
}

extension Reference {
    /// x·Wᵀ + bias.
    static func linear(
        _ input: FloatMatrix, _ weight: StoredWeight, _ bias: [Float]?, blas: BLAS, threads: Int
    ) -> FloatMatrix {
        let depth = input.columns
        let columns = weight.isTransposed ? weight.matrix.columns : weight.matrix.rows
        var result = FloatMatrix(rows: input.rows, columns: columns)
        let blocks = FloatMatrix.rowBlocks(rows: input.rows, columns: columns)
        forEachBlock(of: &result.elements, blocks, threads: threads) { index, output in
            if let bias {
                for start in stride(from: 0, to: output.count, by: columns) {
                    for column in 0..<columns { output[start + column] = bias[column] }
                }
            }
            blas.multiply(
                .init(
                    elements: input.elements, offset: blocks[index].lowerBound / columns * depth, stride: depth),
                weight.factor, m: output.count / columns, n: columns, k: depth, beta: bias == nil ? 0 : 1,
                into: &output, stride: columns)
        }
        return result
    }
}
