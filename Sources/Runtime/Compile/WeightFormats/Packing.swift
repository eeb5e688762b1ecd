import CKernels
import LatheFormat

/// The packing kernels over slices of matrices, and what else the offline half asks of C. The one file of this half that
/// calls kernels.
enum Packing {
    // MARK: Dense panels

    /// P16 panels of `slice`.
    static func packFloat32(_ slice: MatrixSlice, in workspace: Workspace) throws(LatheError) -> EncodedMatrix {
        try slice.requireFinite()
        let size = PanelSize(columns: slice.columns, depth: slice.depth, encoding: .panels)
        let packed = try workspace.buffer(size.values, for: "the panels of \(slice.place)")
        withExtendedLifetime((slice.buffer, packed)) {
            let source = unsafe slice.buffer.elements(of: Float.self)
            let target = unsafe packed.elements(of: Float.self)
            parallelFor(size.panels, threads: workspace.threads) { panel in
                unsafe lathe_pack_f32(
                    source + panel * 16 * slice.columnStride, slice.columnStride * 4, slice.depthStride * 4,
                    min(16, slice.columns - panel * 16), slice.depth, target + panel * 16 * slice.depth)
            }
        }
        var error = EncodingError()
        error.zeros = slice.zeroCount
        return EncodedMatrix(slice: slice, encoding: .panels, values: packed.view, panelErrors: [error])
    }

    /// T16 panels of `slice`, with their scales and column sums and what rounding cost.
    static func packInt8(_ slice: MatrixSlice, in workspace: Workspace) throws(LatheError) -> EncodedMatrix {
        try encode(slice, .init(), in: workspace) { panel in
            unsafe lathe_pack_qc8w(
                panel.source, slice.columnStride * 4, slice.depthStride * 4, panel.columns, slice.depth,
                panel.values.assumingMemoryBound(to: Int8.self), panel.scales, panel.columnSums)
        }
    }

    /// Nibbles of `slice` in groups of `groupSize` inputs, with their multipliers.
    static func packInt4(
        _ slice: MatrixSlice, groupSize: Int, in workspace: Workspace
    ) throws(LatheError) -> EncodedMatrix {
        let importance = slice.importance.map { AlignedBuffer(copying: $0) }
        if let importance { precondition(importance.byteCount == slice.depth * 4, "an importance for each input") }
        return try encode(slice, .init(groupSize: groupSize), in: workspace) { panel in
            withExtendedLifetime(importance) {
                unsafe lathe_pack_qc4w(
                    panel.source, slice.columnStride * 4, slice.depthStride * 4, panel.columns, slice.depth, groupSize,
                    importance.map { unsafe UnsafePointer($0.elements(of: Float.self)) },
                    panel.values.assumingMemoryBound(to: UInt8.self), panel.multipliers, panel.scales,
                    panel.columnSums)
            }
        }
    }

    /// Panels of numbers that were chosen elsewhere; see `EncodedMatrix.init(numbers:…)`, which has checked them.
    static func packNumbers(
        _ numbers: [Int8], multipliers: [Int8], scales: [Float], encoding panels: QuantizedPanels,
        against slice: MatrixSlice, in workspace: Workspace
    ) throws(LatheError) -> EncodedMatrix {
        let (numbers, multipliers) = (AlignedBuffer(copying: numbers), AlignedBuffer(copying: multipliers))
        let depth = slice.depth
        return try encode(slice, panels, in: workspace) { panel in
            withExtendedLifetime((numbers, multipliers)) {
                let first = panel.index * 16
                let source = unsafe numbers.elements(of: Int8.self) + first * depth
                for n in 0..<16 { unsafe panel.scales[n] = n < panel.columns ? scales[first + n] : 1 }
                if let groupSize = panels.groupSize {
                    let groups = lathe_qc4w_groups(depth, groupSize)
                    unsafe lathe_pack_qc4w_values(
                        source, multipliers.elements(of: Int8.self) + first * groups, panel.columns, depth, groupSize,
                        panel.values.assumingMemoryBound(to: UInt8.self), panel.multipliers, panel.columnSums)
                } else {
                    let target = unsafe panel.values.assumingMemoryBound(to: Int8.self)
                    for n in 0..<panel.columns {
                        for k in 0..<depth {
                            let number = unsafe source[n * depth + k]
                            unsafe target[k / 4 * 64 + n * 4 + k % 4] = number
                            unsafe panel.columnSums[n] += Int32(number)
                        }
                    }
                }
            }
        }
    }

    /// Where sixteen outputs come from and go to. Everything but `source` is zero at first.
    @safe
    private struct Panel {
        let index: Int
        let columns: Int
        let source: UnsafePointer<Float>
        let values: UnsafeMutableRawPointer
        let multipliers: UnsafeMutablePointer<Int8>
        let scales: UnsafeMutablePointer<Float>
        let columnSums: UnsafeMutablePointer<Int32>
    }

    /// Calls `pack` for each panel, then measures what it cost.
    private static func encode(
        _ slice: MatrixSlice, _ format: QuantizedPanels, in workspace: Workspace, pack: (Panel) -> Void
    ) throws(LatheError) -> EncodedMatrix {
        try slice.requireFinite()
        let size = PanelSize(columns: slice.columns, depth: slice.depth, encoding: .quantized(format))
        let (panels, panelBytes) = (size.panels, size.values / size.panels)
        let groups = size.multipliers / (16 * size.panels)
        let values = try workspace.buffer(size.values, for: "the numbers of \(slice.place)")
        let multipliers = try workspace.buffer(size.multipliers, for: "the multipliers of \(slice.place)")
        let scales = try workspace.buffer(size.scales, for: "the scales of \(slice.place)")
        let sums = try workspace.buffer(size.sums, for: "the sums of \(slice.place)")
        let errors = try workspace.buffer(size.errors, for: "the errors of \(slice.place)")
        // Each thread expands the panel that it measures.
        let expanded = try workspace.ledger.reserve(
            size.expanded * workspace.threads, .windows, for: "the expanded numbers of \(slice.place)")
        defer { withExtendedLifetime(expanded) {} }
        withExtendedLifetime((slice.buffer, values, multipliers, scales, sums, errors)) {
            let source = unsafe slice.buffer.elements(of: Float.self)
            let values = unsafe UnsafeMutableRawPointer(values.elements(of: UInt8.self))
            let multipliers = unsafe multipliers.elements(of: Int8.self)
            let scales = unsafe scales.elements(of: Float.self)
            let sums = unsafe sums.elements(of: Int32.self)
            let errors = unsafe errors.elements(of: EncodingError.self)
            parallelFor(panels, threads: workspace.threads) { index in
                let panel = unsafe Panel(
                    index: index, columns: min(16, slice.columns - index * 16),
                    source: source + index * 16 * slice.columnStride, values: values + index * panelBytes,
                    multipliers: multipliers + index * 16 * groups, scales: scales + index * 16,
                    columnSums: sums + index * 16)
                pack(panel)
                unsafe withExpanded(
                    panel.values, multipliers: panel.multipliers, depth: slice.depth, groupSize: format.groupSize
                ) { expanded in
                    unsafe errors[index] = encodingError(of: slice, panel, expanded: expanded)
                }
            }
        }
        let panelErrors = (0..<panels).map { errors.view.load($0, as: EncodingError.self) }
        let result = EncodedMatrix(
            slice: slice, encoding: .quantized(format), values: values.view, scales: scales.view.elements(),
            columnSums: sums.view.elements(), multipliers: multipliers.view.elements(), panelErrors: panelErrors)
        try slice.requireUsableScales(result.scales)
        return result
    }

    private static func encodingError(
        of slice: MatrixSlice, _ panel: Panel, expanded: UnsafePointer<Int8>
    ) -> EncodingError {
        var error = EncodingError()
        for k in 0..<slice.depth {
            let row = unsafe panel.source + k * slice.depthStride
            let quad = unsafe expanded + k / 4 * 64 + k % 4
            // In double precision: the square of a large float32 is beyond float32.
            for n in 0..<panel.columns {
                let weight = unsafe Double(row[n * slice.columnStride])
                let number = unsafe quad[n * 4]
                let difference = unsafe weight - Double(number) * Double(panel.scales[n])
                error.squaredError += difference * difference
                error.squaredWeights += weight * weight
                error.zeros += number == 0 ? 1 : 0
            }
        }
        return error
    }

    // MARK: Expanding

    /// The int8 numbers of one panel: T16, whose index within a panel is (k/4)·64 + n·4 + k%4.
    private static func withExpanded(
        _ values: UnsafeRawPointer, multipliers: UnsafePointer<Int8>, depth: Int, groupSize: Int?,
        _ body: (UnsafePointer<Int8>) -> Void
    ) {
        guard let groupSize else { return unsafe body(values.assumingMemoryBound(to: Int8.self)) }
        let expanded = AlignedBuffer(byteCount: 16 * depth.roundedUp(to: 64))
        withExtendedLifetime(expanded) {
            var weights = unsafe lathe_weights()
            unsafe weights.format = LATHE_QC4W
            unsafe weights.columns = 16
            unsafe weights.depth = depth
            unsafe weights.values = values
            unsafe weights.multipliers = multipliers
            unsafe weights.group_size = groupSize
            let kernel = unsafe lathe_expand_select(LATHE_QC4W, lathe_cpu_features())!
            let numbers = unsafe expanded.elements(of: Int8.self)
            unsafe kernel.pointee.run(&weights, 0, 1, numbers)
            unsafe body(numbers)
        }
    }

    /// The numbers that the engine computes with: [n, k].
    static func dequantize(_ matrix: EncodedMatrix) -> FloatMatrix {
        var result = FloatMatrix(rows: matrix.columns, columns: matrix.depth)
        let depth = matrix.depth
        guard let format = matrix.encoding.quantized else {
            for n in 0..<matrix.columns {
                for k in 0..<depth {
                    result.elements[n * depth + k] = matrix.values.load(
                        n / 16 * 16 * depth + k * 16 + n % 16, as: Float.self)
                }
            }
            return result
        }
        let panelBytes = (format.groupSize == nil ? 16 : 8) * depth.roundedUp(to: 64)
        let groups = format.groupSize.map { lathe_qc4w_groups(depth, $0) } ?? 0
        let multipliers = AlignedBuffer(copying: matrix.multipliers)
        unsafe matrix.values.withUnsafeBytes { values in
            unsafe result.elements.withUnsafeMutableBufferPointer { elements in
                for panel in 0..<matrix.columns.roundedUp(to: 16) / 16 {
                    unsafe withExpanded(
                        values.baseAddress! + panel * panelBytes,
                        multipliers: multipliers.elements(of: Int8.self) + panel * 16 * groups, depth: depth,
                        groupSize: format.groupSize
                    ) { numbers in
                        for n in panel * 16..<min(panel * 16 + 16, matrix.columns) {
                            let scale = matrix.scales[n]
                            for k in 0..<depth {
                                let number = unsafe numbers[k / 4 * 64 + n % 16 * 4 + k % 4]
                                unsafe elements[n * depth + k] = Float(number) * scale
                            }
                        }
                    }
                }
            }
        }
        return result
    }

    // MARK: Sparse

    private static func sparseFormat(_ matrix: EncodedMatrix) -> lathe_weight_format {
        matrix.encoding.quantized!.groupSize == nil ? LATHE_QC8W_SPARSE : LATHE_QC4W_SPARSE
    }

    /// Bytes of the packed non-zeros of a dense quantized matrix.
    static func sparseByteCount(_ matrix: EncodedMatrix, in workspace: Workspace) throws(LatheError) -> Int {
        let panels = matrix.columns.roundedUp(to: 16) / 16
        let panelBytes = matrix.values.count / panels
        let counts = try workspace.buffer(panels * 8, for: "the sizes of sparse panels")
        unsafe matrix.values.withUnsafeBytes { values in
            let counts = unsafe counts.elements(of: Int.self)
            parallelFor(panels, threads: workspace.threads) { panel in
                unsafe counts[panel] = lathe_sparse_bytes(
                    sparseFormat(matrix), values.baseAddress! + panel * panelBytes, 16, matrix.depth)
            }
        }
        return withExtendedLifetime(counts) { counts.view.elements().reduce(0, +) }
    }

    /// The matrix without its zeros; its first panel's bytes start at `start`.
    /// - Parameter byteCount: `sparseByteCount` of it.
    static func packSparse(
        _ matrix: EncodedMatrix, start: UInt32, byteCount: Int, in workspace: Workspace
    ) throws(LatheError) -> (values: ByteView, masks: ByteView, starts: [UInt32]) {
        let size = PanelSize(columns: matrix.columns, depth: matrix.depth, encoding: matrix.encoding)
        let values = try workspace.buffer(byteCount, for: "packed non-zeros")
        let masks = try workspace.buffer(size.masks, for: "the masks of packed non-zeros")
        let starts = try workspace.buffer(size.starts, for: "the starts of sparse panels")
        withExtendedLifetime((values, masks, starts)) {
            unsafe matrix.values.withUnsafeBytes { dense in
                unsafe lathe_pack_sparse(
                    sparseFormat(matrix), dense.baseAddress, matrix.columns, matrix.depth, start,
                    values.elements(of: UInt8.self), masks.elements(of: UInt64.self), starts.elements(of: UInt32.self))
            }
        }
        return (values.view, masks.view, starts.view.elements())
    }

    // MARK: Rows

    /// `rows` rows of `width` floats, each padded with zeros to a multiple of 16; `result` holds zeros.
    static func packRows(_ floats: AlignedBuffer, rows: Int, width: Int, into result: AlignedBuffer) {
        precondition(floats.byteCount == rows * width * 4, "as many floats as the rows have")
        let padded = width.roundedUp(to: 16)
        precondition(result.byteCount == rows * padded * 4, "room for the padded rows")
        for row in 0..<rows {
            result.copy(floats.view.slice(offset: row * width * 4, count: width * 4), at: row * padded * 4)
        }
    }

    // MARK: Digest

    /// The compression function of SHA-256 over the whole blocks of 64 bytes in `bytes`; `state` has eight words.
    static func digestBlocks(_ bytes: ByteView, into state: inout [UInt32]) {
        precondition(state.count == 8, "the state of SHA-256 has eight words")
        unsafe bytes.withUnsafeBytes { unsafe lathe_sha256_blocks(&state, $0.baseAddress, $0.count / 64) }
    }

    // MARK: Threads

    /// Calls `body` once for each index below `count`, spread over at most `threads` threads; returns when all are done.
    static func parallelFor(_ count: Int, threads: Int, _ body: (Int) -> Void) {
        withoutActuallyEscaping(body) { body in
            var work = ParallelWork(count: count, body: body)
            unsafe withUnsafeMutablePointer(to: &work) { work in
                unsafe lathe_parallel(
                    max(1, min(threads, count)),
                    { context, thread, threads in
                        let work = unsafe context!.assumingMemoryBound(to: ParallelWork.self)
                        let count = unsafe work.pointee.count
                        for index in count * thread / threads..<count * (thread + 1) / threads {
                            unsafe work.pointee.body(index)
                        }
                    }, work)
            }
        }
    }

    private struct ParallelWork {
        let count: Int
        let body: (Int) -> Void
    }
}
