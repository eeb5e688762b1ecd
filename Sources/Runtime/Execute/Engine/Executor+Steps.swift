import CKernels
import LatheFormat

// Each step: what is done once on the calling thread, then `perform` on every thread, which takes its share of the
// outputs. Which thread computes an output never changes it.
extension Executor {
    /// What `perform` does, set before the team enters.
    @unsafe
    enum Work {
        case idle
        case layerNorm(scale: Int, shift: Int, epsilon: Float, input: ExecutionPlan.Place, output: ExecutionPlan.Place)
        case quantize(lathe_quantize_rows_fn, input: UnsafePointer<Float>, strideBytes: Int, depth: Int)
        case quantizeHalves(lathe_quantize_halves_fn, depth: Int)
        case linearQuantized(lathe_linear_qd8, lathe_linear_qd8_choice)
        case linearHalves(lathe_linear_qd16, lathe_linear_qd8_choice)
        case linearFloat(lathe_linear_f32, lathe_linear_f32_fn)
        case attention(
            layer: Int, scale: Float, query: ExecutionPlan.Place, key: ExecutionPlan.Place, value: ExecutionPlan.Place,
            output: ExecutionPlan.Place)
        case activation(lathe_epilogue, input: ExecutionPlan.Place, output: ExecutionPlan.Place)
        case add(ExecutionPlan.Place, ExecutionPlan.Place, output: ExecutionPlan.Place)
        case choices(Choices, Range<Int>)
        case probe(prefetch: Bool)
        case bind
    }

    /// From this many rows on, work on rows is worth a region of the thread team (about a microsecond).
    private static let parallelRows = 8

    func run(_ step: ExecutionPlan.Step) {
        switch step {
        case .embed(let table, let positionTable, let output):
            unsafe runEmbed(table: weights[table], positionTable: positionTable, output: output)
        case .layerNorm(let scale, let shift, let epsilon, let input, let output):
            unsafe overRows(.layerNorm(scale: scale, shift: shift, epsilon: epsilon, input: input, output: output))
        case .linear(let linear):
            runLinear(linear, rows: rowCount, isHead: false)
        case .attention(let layer, let scale, let query, let key, let value, let output):
            unsafe enter(
                .attention(layer: layer, scale: scale, query: query, key: key, value: value, output: output),
                threads: threads)
        case .activation(let activation, let input, let output):
            unsafe overRows(.activation(Self.epilogue(activation), input: input, output: output))
        case .add(let a, let b, let output):
            unsafe overRows(.add(a, b, output: output))
        }
    }

    /// Keeps each thread of the team to its memory node from now on. What threads touch first, their scratch and the heads of
    /// the KV cache that they store, then comes from there too.
    func bindThreads() {
        guard nodes.isActive else { return }
        unsafe work = .bind
        unsafe lathe_on_each_thread(threads, Self.body, Unmanaged.passUnretained(self).toOpaque())
    }

    private func overRows(_ work: Work) {
        unsafe enter(work, threads: rowCount >= Self.parallelRows ? threads : 1)
    }

    /// Lets the requests of `places` take the logits that `computeLogits` has made for them.
    func run(_ choices: Choices, places: Range<Int>) {
        unsafe enter(.choices(choices, places), threads: min(choosers, places.count))
    }

    private func enter(_ work: Work, threads: Int) {
        unsafe self.work = work
        unsafe lathe_parallel(threads, Self.body, Unmanaged.passUnretained(self).toOpaque())
    }

    private static let body: @convention(c) (UnsafeMutableRawPointer?, Int, Int) -> Void = { context, thread, threads in
        unsafe Unmanaged<Executor>.fromOpaque(context!)._withUnsafeGuaranteedRef {
            $0.perform(thread: thread, of: threads)
        }
    }

    // MARK: On the calling thread

    private func runEmbed(table: Weight, positionTable: Int?, output: ExecutionPlan.Place) {
        var embedding = unsafe lathe_embedding()
        unsafe embedding.width = table.depth
        if let quantized = unsafe table.quantized {
            unsafe embedding.weights = quantized
        } else {
            unsafe embedding.table = table.floats
        }
        if let positionTable {
            let positionTable = unsafe weights[positionTable]
            unsafe embedding.position_table = positionTable.floats
            unsafe embedding.position_stride_bytes = positionTable.depth.roundedUp(to: 16) * 4
        }
        unsafe embedding.ids = UnsafePointer(ids)
        unsafe embedding.positions = UnsafePointer(positions)
        unsafe embedding.rows = rowCount
        unsafe embedding.output = address(output, row: 0)
        unsafe embedding.output_stride_bytes = strideBytes(output)
        unsafe embedFunction(table.quantized?.pointee.format)(&embedding)
    }

    /// - Parameter format: of the table; nil for float32.
    private func embedFunction(_ format: lathe_weight_format?) -> lathe_embedding_fn {
        // An array of C is a tuple here.
        let byFormat = unsafe vector.pointee.embed_qd8
        return switch format {
        case nil: unsafe vector.pointee.embed_f32
        case LATHE_QC4W: unsafe byFormat.1!
        case LATHE_QC8W_SPARSE: unsafe byFormat.2!
        case LATHE_QC4W_SPARSE: unsafe byFormat.3!
        default: unsafe byFormat.0!
        }
    }

    /// - Parameter isHead: the input rows are `headInput`'s and the output is `logits`.
    func runLinear(_ linear: ExecutionPlan.Linear, rows: Int, isHead: Bool) {
        let weight = unsafe weights[linear.weight]
        let input = unsafe isHead ? UnsafePointer(headInput) : UnsafePointer(address(linear.input, row: 0))
        let inputStride = isHead ? headInputStride * 4 : strideBytes(linear.input)
        let output = unsafe isHead ? logits : address(linear.output, row: 0)
        let outputStride = isHead ? logitsStride * 4 : strideBytes(linear.output)
        let residual = unsafe linear.residual.map { unsafe UnsafePointer(address($0, row: 0)) }
        let residualStride = linear.residual.map { strideBytes($0) } ?? 0
        let bias = unsafe linear.bias.map { unsafe weights[$0].floats }
        let epilogue = linear.activation.map(Self.epilogue) ?? LATHE_EPILOGUE_NONE
        switch unsafe weight.encoding {
        case .quantized where linear.activationBits == 16:
            precondition(isHead && linear.activation == nil && linear.residual == nil)
            unsafe runHalves(weight.quantized!, rows: rows, bias: bias)
        case .quantized:
            let choice = unsafe lathe_linear_qd8_choose(weight.quantized!.pointee.format, features, rows)
            let storage = unsafe choice.kernel.pointee.storage
            let quantize = unsafe lathe_quantize_select(features)!
            let toStorage =
                unsafe storage == LATHE_ACTIVATIONS_U8
                ? quantize.pointee.to_storage.0! : quantize.pointee.to_storage.1!
            linearRows = rows
            unsafe enter(
                .quantize(toStorage, input: input, strideBytes: inputStride, depth: weight.depth),
                threads: rows >= Self.parallelRows ? threads : 1)
            let operation = unsafe lathe_linear_qd8(
                rows: rows, activations: quantized, activation_stride_bytes: quantizedStride,
                quantization: rowQuantization, weights: weight.quantized, bias: bias, epilogue: epilogue,
                residual: residual, residual_stride_bytes: residualStride, output: output,
                output_stride_bytes: outputStride)
            unsafe enter(.linearQuantized(operation, choice), threads: threads)
        case .panels:
            let kernel = unsafe lathe_linear_f32_select(features)!
            let operation = unsafe lathe_linear_f32(
                rows: rows, columns: weight.columns, depth: weight.depth, activations: input,
                activation_stride_bytes: inputStride, weights: weight.floats, bias: bias, epilogue: epilogue,
                residual: residual, residual_stride_bytes: residualStride, output: output,
                output_stride_bytes: outputStride)
            unsafe enter(.linearFloat(operation, kernel.pointee.run), threads: threads)
        case .rows:
            preconditionFailure("a validated graph multiplies by matrices alone")
        }
    }

    /// The head's product with 16-bit inputs, from `headInput` to `logits`.
    private func runHalves(_ weight: UnsafePointer<lathe_weights>, rows: Int, bias: UnsafePointer<Float>?) {
        let choice = unsafe lathe_linear_qd8_choose(weight.pointee.format, features, 2 * rows)
        let quantize = unsafe lathe_quantize_select(features)!.pointee.halves_to_storage
        let toStorage =
            unsafe choice.kernel.pointee.storage == LATHE_ACTIVATIONS_U8 ? quantize.0! : quantize.1!
        linearRows = rows
        unsafe enter(
            .quantizeHalves(toStorage, depth: weight.pointee.depth),
            threads: rows >= Self.parallelRows ? threads : 1)
        let operation = unsafe lathe_linear_qd16(
            rows: rows, activations: quantized, activation_stride_bytes: quantizedStride,
            quantization: rowQuantization, activation_scales: headScales, weights: weight, bias: bias, output: logits,
            output_stride_bytes: logitsStride * 4)
        unsafe enter(.linearHalves(operation, choice), threads: threads)
    }

    // MARK: On every thread

    private func perform(thread: Int, of threads: Int) {
        switch unsafe work {
        case .idle: break
        case .layerNorm(let scale, let shift, let epsilon, let input, let output):
            let rows = Self.share(rowCount, thread, threads)
            guard !rows.isEmpty else { return }
            unsafe vector.pointee.layer_norm(
                address(input, row: rows.lowerBound), strideBytes(input), rows.count, input.width,
                weights[scale].floats, weights[shift].floats, epsilon, address(output, row: rows.lowerBound),
                strideBytes(output))
        case .quantize(let quantize, let input, let strideBytes, let depth):
            let rows = Self.share(linearRows, thread, threads)
            guard !rows.isEmpty else { return }
            unsafe quantize(
                input + rows.lowerBound * strideBytes / 4, strideBytes, rows.count, depth,
                rowQuantization + rows.lowerBound, quantized + rows.lowerBound * quantizedStride, quantizedStride)
        case .quantizeHalves(let quantize, let depth):
            let rows = Self.share(linearRows, thread, threads)
            guard !rows.isEmpty else { return }
            let first = 2 * rows.lowerBound
            unsafe quantize(
                headInput + rows.lowerBound * headInputStride, headInputStride * 4, rows.count, depth,
                headScales + rows.lowerBound, rowQuantization + first, quantized + first * quantizedStride,
                quantizedStride)
        case .linearHalves(let operation, let choice):
            let panels = unsafe Self.panelShare(operation.weights, thread, threads)
            unsafe withUnsafePointer(to: operation) {
                unsafe lathe_linear_qd16_run(
                    choice, vector, $0, panels.lowerBound, panels.upperBound, expansionScratch[thread],
                    halvesScratch[thread])
            }
        case .linearQuantized(let operation, let choice):
            let panels = unsafe Self.panelShare(operation.weights, thread, threads)
            unsafe withUnsafePointer(to: operation) {
                unsafe lathe_linear_qd8_run(
                    choice, $0, panels.lowerBound, panels.upperBound, expansionScratch[thread])
            }
        case .linearFloat(let operation, let kernel):
            let panels = Self.panelShare(unsafe operation.columns, thread, threads)
            unsafe withUnsafePointer(to: operation) { unsafe kernel($0, panels.lowerBound, panels.upperBound) }
        case .attention(let layer, let scale, let query, let key, let value, let output):
            performAttention(
                layer, scale, query: query, key: key, value: value, output: output, thread: thread, threads: threads)
        case .activation(let activation, let input, let output):
            for row in Self.share(rowCount, thread, threads) {
                unsafe vector.pointee.activate(
                    address(input, row: row), input.width, activation, address(output, row: row))
            }
        case .add(let a, let b, let output):
            for row in Self.share(rowCount, thread, threads) {
                unsafe vector.pointee.add(
                    address(a, row: row), address(b, row: row), a.width, address(output, row: row))
            }
        case .choices(let choices, let places):
            choices.receive(places, thread: thread, of: threads, from: self)
        case .probe(let prefetch):
            performProbe(prefetch: prefetch, thread: thread, threads: threads)
        case .bind:
            nodes.bind(thread: thread, of: threads)
        }
    }

    /// One task is a head of a segment: its keys and values are stored, then its queries attend.
    private func performAttention(
        _ layer: Int, _ scale: Float, query: ExecutionPlan.Place, key: ExecutionPlan.Place, value: ExecutionPlan.Place,
        output: ExecutionPlan.Place, thread: Int, threads: Int
    ) {
        let heads = configuration.headCount
        let dimension = configuration.headDimension
        for task in Self.share(segments.count * heads, thread, threads) {
            // Field by field: a copy of the segment would count another reference to its table, for each head.
            let index = task / heads
            let head = task % heads
            let first = segments[index].firstRow
            let firstPosition = segments[index].firstPosition
            let count = segments[index].count
            var place = unsafe lathe_kv_head(
                type: cache.layout.type.kernelType, head_dim: dimension, blocks: segments[index].table.pointer,
                key_offset_bytes: cache.layout.keyOffset(layer: layer, head: head),
                value_offset_bytes: cache.layout.valueOffset(layer: layer, head: head))
            unsafe vector.pointee.kv_store(
                &place, firstPosition, count, address(key, row: first) + head * dimension,
                strideBytes(key), address(value, row: first) + head * dimension, strideBytes(value))
            unsafe withUnsafePointer(to: place) { place in
                var attention = unsafe lathe_attention(
                    head: place, first_position: firstPosition, rows: count,
                    queries: address(query, row: first) + head * dimension, query_stride_bytes: strideBytes(query),
                    scale: scale, output: address(output, row: first) + head * dimension,
                    output_stride_bytes: strideBytes(output), scratch: attentionScratch[thread])
                unsafe vector.pointee.attention(&attention)
            }
        }
    }

    // MARK: The read probe

    /// Bytes a second at which the team reads the weights that a decode step reads, in place: the roof of decode speed.
    ///
    /// The better of plain and prefetching passes, each the median of five, after one that is not counted: what ran
    /// before has left other things in the caches.
    func readBandwidth() -> Double {
        let clock = ContinuousClock()
        unsafe enter(.probe(prefetch: false), threads: threads)
        var best = 0.0
        for prefetch in [false, true] {
            var passes = (0..<5).map { _ in
                let start = clock.now
                unsafe enter(.probe(prefetch: prefetch), threads: threads)
                return (clock.now - start).seconds
            }
            passes.sort()
            best = max(best, Double(stepWeightBytes) / passes[2])
        }
        return best
    }

    /// Reads this thread's share of the bytes, and keeps what depends on them.
    private func performProbe(prefetch: Bool, thread: Int, threads: Int) {
        // One run of all the bytes; but of weights that are spread over nodes, a part of each, as in a step.
        let whole = Self.share(stepWeightBytes / 64, thread, threads)
        var start = 0
        var sum: UInt64 = 0
        for index in unsafe probeRegions.indices {
            let region = unsafe probeRegions[index]
            let lines = region.count / 64
            let part = Self.share(lines, thread, threads)
            let first = nodes.isActive ? part.lowerBound : max(whole.lowerBound - start, 0)
            let end = nodes.isActive ? part.upperBound : min(whole.upperBound - start, lines)
            if first < end {
                unsafe sum &+= lathe_read_probe(
                    region.baseAddress! + first * 64, (end - first) * 64, prefetch, lathe_cpu_features())
            }
            start += lines
        }
        unsafe probeSums[thread] &+= sum
    }

    // MARK: Addresses and shares

    func address(_ place: ExecutionPlan.Place, row: Int) -> UnsafeMutablePointer<Float> {
        let buffer = unsafe buffers[place.buffer]
        return unsafe buffer.base + row * buffer.stride + place.offset
    }

    private func strideBytes(_ place: ExecutionPlan.Place) -> Int { unsafe buffers[place.buffer].stride * 4 }

    private static func share(_ count: Int, _ thread: Int, _ threads: Int) -> Range<Int> {
        count * thread / threads..<count * (thread + 1) / threads
    }

    /// Panels in groups that no kernel likes to see cut: kernels take three or four panels at once. Small layers are cut
    /// finer, so that every thread has its part.
    static func panelShare(_ columns: Int, _ thread: Int, _ threads: Int) -> Range<Int> {
        let panels = (columns + 15) / 16
        let group = panels >= 24 * threads ? 12 : 4
        let groups = share((panels + group - 1) / group, thread, threads)
        return min(groups.lowerBound * group, panels)..<min(groups.upperBound * group, panels)
    }

    /// The same for quantized weights. Of sparse panels some are fuller than others, so they are shared out by bytes.
    static func panelShare(_ weights: UnsafePointer<lathe_weights>, _ thread: Int, _ threads: Int) -> Range<Int> {
        let columns = unsafe weights.pointee.columns
        guard let starts = unsafe weights.pointee.starts else { return panelShare(columns, thread, threads) }
        let panels = (columns + 15) / 16
        // A mask of eight bytes for four inputs of sixteen outputs.
        let maskBytes = unsafe weights.pointee.depth.roundedUp(to: 64) * 2
        func bytes(before panel: Int) -> Int { unsafe Int(starts[panel]) + panel * maskBytes }
        // The last panel's end is not at hand: it is taken to be as full as the mean of the others.
        let total = bytes(before: panels - 1) * panels / max(1, panels - 1)
        func cut(_ part: Int) -> Int {
            var (low, high) = (0, panels / 4)
            while low < high {
                let middle = (low + high) / 2
                if bytes(before: 4 * middle) < total * part / threads { low = middle + 1 } else { high = middle }
            }
            return part == threads ? panels : min(4 * low, panels)
        }
        return cut(thread)..<cut(thread + 1)
    }

    private static func epilogue(_ activation: Activation) -> lathe_epilogue {
        switch activation {
        case .geluTanh: LATHE_EPILOGUE_GELU_TANH
        case .geluErf: LATHE_EPILOGUE_GELU_ERF
        case .relu: LATHE_EPILOGUE_RELU
        }
    }
}
