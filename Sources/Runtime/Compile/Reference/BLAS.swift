import CKernels
import LatheFormat

#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif

/// Matrix products and Cholesky factors by OpenBLAS, which is loaded when it is first asked for: whoever only converts
/// or runs models needs no such library, and its reservations of address space burden no other process.
///
/// OpenBLAS runs each call on the calling thread; callers split their work over threads of their own, at places that do
/// not depend on the number of threads, so that results do not either.
@safe
struct BLAS: Sendable {
    // C's `int` is the integer of Debian's libopenblas0 (LP64). Enumerators by the CBLAS standard.
    private typealias SingleProduct =
        @convention(c) (
            _ order: Int32, _ transposeA: Int32, _ transposeB: Int32, _ m: Int32, _ n: Int32, _ k: Int32, Float,
            UnsafePointer<Float>, _ strideA: Int32, UnsafePointer<Float>, _ strideB: Int32, Float,
            UnsafeMutablePointer<Float>, _ strideC: Int32
        ) -> Void
    /// `dpotrf_` and `dpotri_`: UPLO, N, A, LDA, INFO, and Fortran's hidden length of UPLO.
    private typealias Cholesky =
        @convention(c) (
            UnsafePointer<CChar>, UnsafePointer<Int32>, UnsafeMutablePointer<Double>, UnsafePointer<Int32>,
            UnsafeMutablePointer<Int32>, Int
        ) -> Void
    private typealias SetThreads = @convention(c) (Int32) -> Void

    private static let rowMajor: Int32 = 101
    private static let plain: Int32 = 111
    private static let transposed: Int32 = 112

    private let singleProduct: SingleProduct
    private let factorize: Cholesky
    private let invertFactor: Cholesky

    // MARK: Loading

    #if canImport(Darwin)
        static let libraryName = "libopenblas.dylib"
    #else
        static let libraryName = "libopenblas.so.0"
    #endif

    private static let installed: Result<BLAS, LatheError> = {
        do throws(LatheError) { return .success(try BLAS(library: libraryName)) } catch { return .failure(error) }
    }()

    /// The library of this machine, loaded at the first call.
    ///
    /// - Throws: `missing` where there is none, naming the package that brings it.
    static func load() throws(LatheError) -> BLAS { try installed.get() }

    /// Loads the shared library called `library`, which stays loaded until the process ends.
    init(library: String) throws(LatheError) {
        // Read once, while the library starts: without it a thread for each core would be made and memory reserved for it.
        unsafe setenv("OPENBLAS_NUM_THREADS", "1", 1)
        // OpenBLAS knows processors by their model numbers: on one that is newer than itself it falls back to SSE3, at a
        // quarter of the speed (0.3.21 on a Xeon of 2024: 31 instead of 140 GFLOPS). A setting of the user's stands.
        if let core = Self.coreType { unsafe setenv("OPENBLAS_CORETYPE", core, 0) }
        guard let handle = unsafe dlopen(library, RTLD_NOW | RTLD_LOCAL) else {
            throw LatheError(
                .missing,
                "The float32 reference computes with OpenBLAS, and \(library) could not be loaded; on Debian and Ubuntu "
                    + "it comes with `apt-get install libopenblas0` (or libopenblas-dev).")
        }
        func symbol<T>(_ name: String, as type: T.Type) throws(LatheError) -> T {
            guard let address = unsafe dlsym(handle, name) else {
                throw LatheError(
                    .unsupported,
                    "\(library) was loaded, but it has no function `\(name)`; install OpenBLAS built with CBLAS and "
                        + "LAPACK, such as Debian's package libopenblas0.")
            }
            return unsafe unsafeBitCast(address, to: type)
        }
        unsafe singleProduct = try symbol("cblas_sgemm", as: SingleProduct.self)
        unsafe factorize = try symbol("dpotrf_", as: Cholesky.self)
        unsafe invertFactor = try symbol("dpotri_", as: Cholesky.self)
        try symbol("openblas_set_num_threads", as: SetThreads.self)(1)
    }

    /// OpenBLAS's name for kernels that this processor runs, by its features; nil where the library had better choose.
    private static var coreType: String? {
        let features = lathe_cpu_features()
        if features & UInt32(LATHE_CPU_AVX512) != 0 { return "SkylakeX" }
        return features & UInt32(LATHE_CPU_AVX2) != 0 ? "Haswell" : nil
    }

    // MARK: Products

    /// One factor of a product: rows of `stride` elements from `offset` on, read across where `isTransposed`.
    struct Factor {
        let elements: [Float]
        var offset = 0
        let stride: Int
        var isTransposed = false

        /// Traps unless `rows` × `columns` elements of the factor, as the product reads it, lie within its elements.
        fileprivate func requireExtent(rows: Int, columns: Int) {
            let (rows, columns) = isTransposed ? (columns, rows) : (rows, columns)
            precondition(
                offset >= 0 && columns <= stride && (rows - 1) * stride + columns <= elements.count - offset,
                "a factor outside its elements")
        }
    }

    /// c = alpha·a·b + beta·c on the calling thread: a is [m, k], b [k, n], and c [m, n] in rows of `stride` elements from
    /// `offset` on. Traps where a matrix leaves its elements.
    func multiply(
        _ a: Factor, _ b: Factor, m: Int, n: Int, k: Int, alpha: Float = 1, beta: Float = 0,
        into c: inout MutableSpan<Float>, offset: Int = 0, stride: Int
    ) {
        guard m > 0 && n > 0 else { return }
        precondition(k > 0 && max(m, n, k, a.stride, b.stride, stride) <= Int(Int32.max))
        a.requireExtent(rows: m, columns: k)
        b.requireExtent(rows: k, columns: n)
        precondition(
            offset >= 0 && n <= stride && (m - 1) * stride + n <= c.count - offset, "a product outside its room")
        unsafe a.elements.withUnsafeBufferPointer { x in
            unsafe b.elements.withUnsafeBufferPointer { y in
                unsafe c.withUnsafeMutableBufferPointer { z in
                    unsafe singleProduct(
                        Self.rowMajor, a.isTransposed ? Self.transposed : Self.plain,
                        b.isTransposed ? Self.transposed : Self.plain, Int32(m), Int32(n), Int32(k), alpha,
                        x.baseAddress! + a.offset, Int32(a.stride), y.baseAddress! + b.offset, Int32(b.stride), beta,
                        z.baseAddress! + offset, Int32(stride))
                }
            }
        }
    }

    // MARK: Cholesky factors

    /// Replaces the symmetric matrix A [order, order] by the upper triangle U of A = Uᵀ·U, zeros below.
    ///
    /// - Returns: whether A is positive definite; otherwise it is left half done.
    func factorizeUpper(_ matrix: inout [Double], order: Int) -> Bool {
        guard unsafe runLAPACK(factorize, &matrix, order) else { return false }
        for row in 1..<max(1, order) {
            for column in 0..<row { matrix[row * order + column] = 0 }
        }
        return true
    }

    /// Replaces the symmetric matrix A [order, order] by its inverse.
    ///
    /// - Returns: whether A is positive definite; otherwise it is left half done.
    func invertPositiveDefinite(_ matrix: inout [Double], order: Int) -> Bool {
        guard unsafe runLAPACK(factorize, &matrix, order), unsafe runLAPACK(invertFactor, &matrix, order) else {
            return false
        }
        for row in 1..<max(1, order) {
            for column in 0..<row { matrix[row * order + column] = matrix[column * order + row] }
        }
        return true
    }

    /// LAPACK reads columns: its lower triangle is the upper one of our rows.
    private func runLAPACK(_ function: Cholesky, _ matrix: inout [Double], _ order: Int) -> Bool {
        precondition(order >= 0 && matrix.count == order * order, "a square matrix of that order")
        guard order > 0 else { return true }
        var size = Int32(order)
        var status: Int32 = 0
        unsafe matrix.withUnsafeMutableBufferPointer { elements in
            unsafe "L".withCString { unsafe function($0, &size, elements.baseAddress!, &size, &status, 1) }
        }
        return status == 0
    }
}

// MARK: - Work split over threads

/// Calls `body` for each of `blocks` with its index and the elements of `array` in it, spread over at most `threads`
/// threads. Blocks ascend and do not overlap; traps otherwise.
func forEachBlock<T: BitwiseCopyable>(
    of array: inout [T], _ blocks: [Range<Int>], threads: Int, _ body: (Int, inout MutableSpan<T>) -> Void
) {
    var end = 0
    for block in blocks {
        precondition(block.lowerBound >= end && block.upperBound <= array.count, "blocks ascend within the array")
        end = block.upperBound
    }
    unsafe array.withUnsafeMutableBufferPointer { elements in
        let elements = unsafe elements
        Packing.parallelFor(blocks.count, threads: threads) { index in
            // Disjoint, as was checked above: each block is one thread's alone.
            var span = unsafe MutableSpan(_unsafeElements: elements.extracting(blocks[index]))
            body(index, &span)
        }
    }
}
