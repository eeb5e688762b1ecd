/// Reads the elements of a tensor as float32.
struct FloatConversion {
    private let dtype: DType

    /// nil for types that are not read as numbers.
    init?(_ dtype: DType) {
        switch dtype {
        case .f32, .f16, .bf16, .i8, .u8, .i32, .i64, .bool: self.dtype = dtype
        default: return nil
        }
    }

    /// Converts all elements of `source` and stores them from element `position` of `floats` on; traps if they do not fit.
    /// - Returns: false if a BOOL is neither 0 nor 1.
    func convert(_ source: ByteView, into floats: AlignedBuffer, at position: Int) -> Bool {
        switch dtype {
        case .f32: floats.copy(source, at: position * 4)
        case .f16: map(source, floats, position) { (bits: UInt16) in float(half: UInt16(littleEndian: bits)) }
        case .bf16:
            map(source, floats, position) { (bits: UInt16) in
                Float(bitPattern: UInt32(UInt16(littleEndian: bits)) << 16)
            }
        case .i8: map(source, floats, position) { (value: Int8) in Float(value) }
        case .u8: map(source, floats, position) { (value: UInt8) in Float(value) }
        case .i32: map(source, floats, position) { (value: Int32) in Float(Int32(littleEndian: value)) }
        case .i64: map(source, floats, position) { (value: Int64) in Float(Int64(littleEndian: value)) }
        default:
            var all: UInt8 = 0
            map(source, floats, position) { (value: UInt8) in
                all |= value
                return Float(value)
            }
            return all <= 1
        }
        return true
    }

    @inline(__always)
    private func map<T: FixedWidthInteger & BitwiseCopyable>(
        _ source: ByteView, _ floats: AlignedBuffer, _ position: Int, _ convert: (T) -> Float
    ) {
        let source = source.isAligned(to: T.self) ? source : ByteView(copying: source)
        source.withSpan(of: T.self) { elements in
            floats.withMutableSpan(of: Float.self) { floats in
                // Checked once, so that the compiler need not check each.
                precondition(position >= 0 && position <= floats.count - elements.count)
                for index in elements.indices { floats[position + index] = convert(elements[index]) }
            }
        }
    }
}

/// The float32 of the same value as an IEEE half; NaNs keep their payload. Integer arithmetic and one exact subtraction,
/// without branches, so that loops over it become vector code.
@inline(__always)
func float(half: UInt16) -> Float {
    let magnitude = UInt32(half & 0x7FFF) << 13
    let exponent = magnitude & 0x0F80_0000
    // Both formats are sign, exponent, fraction: only the bias differs, and the top exponent goes to the top.
    let rebias: UInt32 = exponent == 0x0F80_0000 ? (127 - 15 + 128 - 16) << 23 : (127 - 15) << 23
    let normal = magnitude &+ rebias
    // Subnormal halves: fraction · 2^-24, as (2^-14 + fraction · 2^-24) − 2^-14.
    let smallest: UInt32 = 113 << 23
    let subnormal = (Float(bitPattern: magnitude | smallest) - Float(bitPattern: smallest)).bitPattern
    let bits = exponent == 0 ? subnormal : normal
    return Float(bitPattern: bits | UInt32(half & 0x8000) << 16)
}
