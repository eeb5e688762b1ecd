import LatheFormat
import Testing

@testable import LatheCompiler

/// What stands in the file, read by the layouts that docs/ARITHMETIC.md and the kernels' header give.
@Suite struct WeightFileTests {
    /// w8 of every weight [n][k], decoded without any of the package's packing.
    private static func numbers(_ parameter: Parameter, in model: ModelFile) throws -> [Int] {
        let panels = try #require(parameter.encoding.quantized)
        func bytes(_ suffix: String = "") throws -> ByteView { try model.container.bytes(of: parameter.name + suffix) }
        let (columns, depth) = (parameter.columns, parameter.depth)
        let padded = (depth + 63) / 64 * 64
        let values = try bytes()
        let multipliers = try panels.groupSize == nil ? nil : bytes(".multipliers")
        /// Of the T16 vector of sixteen outputs and four inputs, what byte `b` holds.
        var number: (_ panel: Int, _ vector: Int, _ byte: Int) -> Int
        switch (panels.groupSize, panels.packedByteCount) {
        case (nil, nil):
            number = { Int(Int8(bitPattern: values[($0 * padded / 4 + $1) * 64 + $2])) }
        case (.some, nil):
            number = { panel, vector, byte in
                let pair = values[(panel * padded / 8 + vector / 2) * 64 + byte]
                return Int(Int8(bitPattern: vector % 2 == 0 ? pair << 4 : pair) >> 4)
            }
        case (_, .some):
            let masks = try bytes(".masks")
            let starts = try bytes(".starts")
            number = { panel, vector, byte in
                func mask(_ vector: Int) -> UInt64 { masks.load(panel * padded / 4 + vector, as: UInt64.self) }
                guard mask(vector) >> UInt64(byte) & 1 == 1 else { return 0 }
                var offset = Int(starts.load(panel, as: UInt32.self))
                let before = (mask(vector) & ((1 << UInt64(byte)) - 1)).nonzeroBitCount
                guard panels.groupSize != nil else {
                    for earlier in 0..<vector { offset += mask(earlier).nonzeroBitCount }
                    return Int(Int8(bitPattern: values[offset + before]))
                }
                for pair in 0..<vector / 2 {
                    offset += max(mask(2 * pair).nonzeroBitCount, mask(2 * pair + 1).nonzeroBitCount)
                }
                let pair = values[offset + before]
                return Int(Int8(bitPattern: vector % 2 == 0 ? pair << 4 : pair) >> 4)
            }
        }
        return (0..<columns * depth).map { element in
            let (n, k) = (element / depth, element % depth)
            let number = number(n / 16, k / 4, n % 16 * 4 + k % 4)
            guard let groupSize = panels.groupSize, let multipliers else { return number }
            let groups = (padded + groupSize - 1) / groupSize
            return number * Int(Int8(bitPattern: multipliers[(n / 16 * groups + k / groupSize) * 16 + n % 16]))
        }
    }

    /// The float32 weights [n][k] of a parameter of odd-gpt2 or tiny-gpt2.
    private static func weights(_ name: String, in checkpoint: Checkpoint) throws -> [Float] {
        let source = try #require(try Architectures.define(checkpoint).weights.first { $0.name == name })
        let floats = try source.entry.file.floats(of: source.entry.tensor.name)
        let (columns, depth) = (source.shape[0], source.shape[1])
        return (0..<columns * depth).map { element in
            let (n, k) = (element / depth, element % depth)
            return floats.view.load(source.isTransposed ? k * columns + n : element, as: Float.self)
        }
    }

    static let formats = [
        "int8:dense", "int8:sparse", "int4:g32:dense", "int4:g64:dense", "int4:g128:dense", "int4:g32:sparse",
        "int4:g64:sparse", "int4:g128:sparse",
    ]

    /// Half of the weights zero, so that sparse formats have something to leave out.
    private static func halfEmpty() throws -> BentCheckpoint {
        let checkpoint = try BentCheckpoint("odd-gpt2")
        for name in try checkpoint.names() where name.hasSuffix(".safetensors") {
            try checkpoint.changeTensors(of: name) { tensors in
                for index in tensors.indices where tensors[index].shape.count == 2 {
                    let size = tensors[index].dtype.bitWidth / 8
                    for element in 0..<tensors[index].bytes.count / size where (element * 7 + element / 5) % 2 == 0 {
                        for byte in 0..<size { tensors[index].bytes[element * size + byte] = 0 }
                    }
                }
            }
        }
        return checkpoint
    }

    @Test(arguments: formats)
    func theFileHoldsWhatTheFormatSays(format: String) throws {
        let checkpoint = try Self.halfEmpty()
        let recipe = Recipe(overrides: [try .init(parsing: "*=\(format)")])
        let report = try Compiler(recipe: recipe).compile(checkpoint: checkpoint.path, output: checkpoint.file("out"))
        let model = try ModelFile.open(path: checkpoint.file("out"), verify: true)
        let source = try Checkpoint(path: checkpoint.path)
        var seen = 0
        for parameter in model.graph.parameters where parameter.encoding.isQuantized {
            seen += 1
            let numbers = try Self.numbers(parameter, in: model)
            let weights = try Self.weights(parameter.name, in: source)
            let scales = try model.container.bytes(of: "\(parameter.name).scales")
            let sums = try model.container.bytes(of: "\(parameter.name).column_sums")
            var (squaredError, squaredWeights) = (0.0, 0.0)
            for n in 0..<parameter.columns {
                let scale = scales.load(n, as: Float.self)
                let row = n * parameter.depth..<(n + 1) * parameter.depth
                #expect(Int(sums.load(n, as: Int32.self)) == numbers[row].reduce(0, +))
                if format.hasPrefix("int8") {
                    let absmax = weights[row].map(abs).max()!
                    #expect(absmax == 0 || scale == absmax / 127)
                }
                for element in row {
                    let difference = Double(weights[element]) - Double(scale) * Double(numbers[element])
                    // The nearest number but for the inverse scale's own rounding; int4 moves its scale.
                    if format.hasPrefix("int8") { #expect(abs(difference) <= Double(scale) * 0.50001) }
                    if weights[element] == 0 { #expect(numbers[element] == 0) }
                    squaredError += difference * difference
                    squaredWeights += Double(weights[element]) * Double(weights[element])
                }
            }
            let tensor = try #require(report.tensors.first { $0.name == parameter.name })
            let error = (squaredError / squaredWeights).squareRoot()
            #expect(abs(tensor.relativeError - error) <= 1e-12 && error < 0.2)
            #expect(tensor.sparsity == Double(numbers.count { $0 == 0 }) / Double(numbers.count))
            #expect(tensor.sparsity > 0.45)
            let told = format.replacing(":dense", with: "")
            #expect(tensor.format == told && parameter.encoding.formatName == told)
        }
        #expect(seen == report.tensors.count { $0.format != "f32" } && seen > 4)
    }

    /// Sparse and dense files hold the same numbers.
    @Test(arguments: [("int8:dense", "int8:sparse"), ("int4:g64:dense", "int4:g64:sparse")])
    func leavingZerosOutChangesNoNumber(dense: String, sparse: String) throws {
        let checkpoint = try Self.halfEmpty()
        let models = try [dense, sparse].map { format in
            let file = try Compiler(recipe: Recipe(overrides: [try .init(parsing: "*=\(format)")]))
                .compileInMemory(checkpoint: checkpoint.path)
            return try ModelFile.open(mapped: file, verify: true)
        }
        for (a, b) in zip(models[0].graph.parameters, models[1].graph.parameters) where a.encoding.isQuantized {
            #expect(try Self.numbers(a, in: models[0]) == Self.numbers(b, in: models[1]))
            for part in [".scales", ".column_sums"] {
                #expect(
                    try models[0].container.bytes(of: a.name + part)
                        .hasSameBytes(as: models[1].container.bytes(of: b.name + part)))
            }
        }
    }

    // MARK: In memory

    /// A matrix of small whole numbers.
    private static func matrix(_ rows: Int, _ columns: Int) -> FloatMatrix {
        FloatMatrix(
            rows: rows, columns: columns,
            elements: (0..<rows * columns).map { (index: Int) -> Float in Float(index * 7919 % 255 - 127) / 64 })
    }

    @Test(arguments: ["int8", "int4:g32", "int4:g64", "int4:g128", "f32"])
    func dequantizedIsWhatTheErrorWasMeasuredBy(format: String) throws {
        let matrix = Self.matrix(37, 101)
        let encoded = try EncodedMatrix(
            encoding: matrix, as: TensorFormat(parsing: format), name: "w", threads: 2)
        let back = encoded.dequantized()
        #expect(back.rows == 37 && back.columns == 101)
        var (squaredError, squaredWeights) = (0.0, 0.0)
        for (w, v) in zip(matrix.elements, back.elements) {
            squaredError += Double(w - v) * Double(w - v)
            squaredWeights += Double(w) * Double(w)
        }
        #expect(abs(encoded.error.relative - (squaredError / squaredWeights).squareRoot()) < 1e-6)
        if format == "f32" { #expect(back.elements == matrix.elements) }
    }

    @Test func numbersChosenElsewhereAreKept() throws {
        let matrix = Self.matrix(19, 70)
        let scales = (0..<19).map { Float($0 + 1) / 8 }
        let numbers = (0..<19 * 70).map { (index: Int) -> Int8 in Int8(index * 31 % 16) - 8 }
        let multipliers = (0..<19 * 4).map { (index: Int) -> Int8 in
            let magnitude = Int8(index % 15 + 1)
            return index % 2 == 0 ? magnitude : -magnitude
        }
        let int4 = try EncodedMatrix(
            numbers: numbers, multipliers: multipliers, groupSize: 32, scales: scales, for: matrix, name: "w",
            threads: 2)
        let int8 = try EncodedMatrix(numbers: numbers, scales: scales, for: matrix, name: "w", threads: 2)
        let (back4, back8) = (int4.dequantized(), int8.dequantized())
        for n in 0..<19 {
            for k in 0..<70 {
                let number = Float(numbers[n * 70 + k])
                #expect(back8[n, k] == number * scales[n])
                #expect(back4[n, k] == number * Float(multipliers[n * 4 + k / 32]) * scales[n])
            }
        }
    }

    @Test func importanceIsHonoured() throws {
        let matrix = Self.matrix(16, 64)
        var importance = [Float](repeating: 1e-6, count: 64)
        for k in 0..<8 { importance[k] = 1 }
        func error(_ importance: [Float]?) throws -> Double {
            let back = try EncodedMatrix(
                encoding: matrix, as: TensorFormat(.int4), importance: importance, name: "w", threads: 1
            ).dequantized()
            var sum = 0.0
            for n in 0..<16 {
                for k in 0..<8 { sum += Double((matrix[n, k] - back[n, k]) * (matrix[n, k] - back[n, k])) }
            }
            return sum
        }
        #expect(try error(importance) < error(nil))
    }

    // MARK: Which is smaller

    /// Writes a matrix that stands in for one of the checkpoint's.
    private func encoding(of matrix: FloatMatrix, _ format: TensorFormat) throws -> WeightEncoding {
        let checkpoint = try BentCheckpoint()
        return try withExtendedLifetime(checkpoint) {
            var source = try Architectures.define(try Checkpoint(path: checkpoint.path)).weights[0]
            source.shape = [matrix.rows, matrix.columns]
            let writer = try LatheFileWriter(.memory(name: "x"), headerByteCount: 1 << 16)
            let schedule = MatrixSchedule.Problem(source: source, format: format, threads: 2).whole
            let outcome = try MatrixWriter(
                writer: writer, source: source, format: format, schedule: schedule, workspace: Workspace(threads: 2)
            ).write(.weights(matrix))
            #expect(
                writer.tensors
                    == Parameter(name: source.name, shape: source.shape, encoding: outcome.encoding).declarations)
            #expect(try writer.finish(metadata: []) != nil)
            return outcome.encoding
        }
    }

    /// int8, 256 × 256: 65 536 bytes dense; without zeros 8192 of masks, 64 of starts and the non-zeros with 64 zeros
    /// behind, a multiple of 64. That is less than dense from 8384 zeros on: an eighth, and 192 for what does not shrink.
    @Test(arguments: [(8383, false), (8384, true), (8385, true), (0, false), (65536, true)])
    func int8IsSparseFromAnEighthOn(zeros: Int, isSparse: Bool) throws {
        var matrix = FloatMatrix(rows: 256, columns: 256)
        for element in 0..<65536 where element >= zeros { matrix.elements[element] = Float(element % 127 + 1) }
        let found = try encoding(of: matrix, TensorFormat(.int8, sparse: .auto))
        #expect((found.quantized?.packedByteCount != nil) == isSparse)
        // Only `auto` asks for sizes.
        #expect(try encoding(of: matrix, TensorFormat(.int8, sparse: .off)) == .qc8w)
        #expect(try encoding(of: matrix, TensorFormat(.int8, sparse: .on)).quantized?.packedByteCount != nil)
    }

    /// int4: 32 768 bytes dense, and a byte saved only where both weights of a pair of vectors (k and k + 4) are zero.
    /// Multipliers stand in both.
    @Test(arguments: [(8383, false), (8384, true)])
    func int4IsSparseFromAQuarterOn(zeroPairs: Int, isSparse: Bool) throws {
        var matrix = FloatMatrix(rows: 256, columns: 256)
        for n in 0..<256 {
            for k in 0..<256 {
                let pair = (n * 256 + k / 8 * 8) / 2 + k % 4
                matrix[n, k] = pair < zeroPairs ? 0 : 1
            }
        }
        let found = try encoding(of: matrix, TensorFormat(.int4, groupSize: 64, sparse: .auto))
        #expect((found.quantized?.packedByteCount != nil) == isSparse)
        #expect(found.quantized?.groupSize == 64)
    }

    // MARK: The same bytes

    @Test(arguments: [
        Recipe(weights: .int8, sparse: .on), Recipe(weights: .int4), Recipe(weights: .int4, groupSize: 32, sparse: .on),
        Recipe(
            weights: .int8,
            overrides: [
                .init(pattern: "lm_head", format: TensorFormat(.int4, sparse: .auto)),
                .init(pattern: "h.0", format: TensorFormat(.float32)),
            ]),
    ])
    func conversionsAreDeterministic(recipe: Recipe) throws {
        let checkpoint = try Self.halfEmpty()
        let digests = try [1, 1, 2, 3].map { threads in
            XXH64.digest(
                of: try Compiler(recipe: recipe, threads: threads).compileInMemory(checkpoint: checkpoint.path).view)
        }
        #expect(Set(digests).count == 1)
        try withKnownRecipe(recipe, checkpoint)
    }

    /// The recipe that a file carries makes the same file again.
    private func withKnownRecipe(_ recipe: Recipe, _ checkpoint: BentCheckpoint) throws {
        let first = try Compiler(recipe: recipe).compileInMemory(checkpoint: checkpoint.path)
        let model = try ModelFile.open(mapped: first, verify: true)
        let carried = try Recipe(json: model.recipe, source: "recipe")
        #expect(carried == recipe)
        let second = try Compiler(recipe: carried).compileInMemory(checkpoint: checkpoint.path)
        #expect(first.view.hasSameBytes(as: second.view))
    }
}
