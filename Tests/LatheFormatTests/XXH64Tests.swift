import Testing

@testable import LatheFormat

/// Expected values come from the reference implementation (xxhash 0.8, through its Python package) on the bytes
/// (7·i + i/256) mod 256.
@Suite struct XXH64Tests {
    static let vectors: [(count: Int, plain: UInt64, seeded: UInt64)] = [
        (0, 0xEF46_DB37_51D8_E999, 0xC434_9FC9_3C01_0000),
        (1, 0xE934_A84A_DB05_2768, 0x126B_B57A_1236_4AA5),
        (2, 0x2C1B_C603_FE31_338C, 0x8A32_618F_C43A_0101),
        (3, 0x9FF7_0A63_5A62_09AB, 0xD169_D7C1_CB5E_443F),
        (4, 0xAE5A_CDC0_0A55_AC41, 0xAEEC_91BD_FD4F_8A43),
        (7, 0xD734_A6B2_6F3D_A63E, 0x60BF_31AB_F53F_85DD),
        (8, 0x8711_6B33_65B9_24EB, 0xCFCF_D09B_165B_3EDB),
        (9, 0x3406_67A9_2C43_24FF, 0xB306_37B5_4997_61ED),
        (15, 0x02C5_3AB1_E360_882F, 0x778B_ED27_9107_DF97),
        (16, 0xED1D_D2FA_C0A3_1FBC, 0xD446_4228_F8B0_E4FE),
        (31, 0x0F18_7C62_B1E7_22B7, 0x74A5_C408_B232_704D),
        (32, 0x91B0_CB09_31A8_C629, 0xFFED_706A_1999_BB4F),
        (33, 0x931B_043C_F8D6_5B94, 0x5D32_68A3_0EB7_55D3),
        (63, 0x2191_10BF_13E2_FA26, 0x3D33_BC4B_FD4D_217F),
        (64, 0xBF30_52E3_4457_75D0, 0x767E_0FA4_D0BA_92EF),
        (65, 0xED65_E351_0DF3_611D, 0x37D5_0E5E_BD2C_6F2C),
        (100, 0x8E22_72C0_8247_D5DB, 0x7834_47AA_4F00_D046),
        (127, 0x6A20_762B_BB90_1936, 0x2F89_88A0_2630_CF59),
        (128, 0x6BD6_6A75_7CF2_0D64, 0xD50F_B36B_5A3D_7F7B),
        (255, 0x2903_7D30_C013_6AF3, 0xEFE9_13BA_AEBF_59C3),
        (256, 0x2104_9918_04CC_EA01, 0x8482_989E_ACCA_254A),
        (1000, 0x6983_99D6_2F9C_1695, 0xDD42_014A_B7F5_06A0),
        (4096, 0x2F20_95DB_B4B7_8856, 0x0534_0A3B_8B09_06E2),
        (5000, 0x3434_B44B_D6CB_A68B, 0xBBB5_98FB_F5EB_D69E),
    ]
    static let seed: UInt64 = 0x9E37_79B9_7F4A_7C15

    private func bytes(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 * 7 + $0 / 256) } }

    private func hash(_ view: ByteView, seed: UInt64 = 0, piece: Int) -> UInt64 {
        var hash = XXH64(seed: seed)
        for start in stride(from: 0, to: view.count, by: piece) {
            hash.update(view.slice(offset: start, count: min(piece, view.count - start)))
        }
        return hash.digest()
    }

    @Test(arguments: vectors)
    func equalsTheReference(count: Int, plain: UInt64, seeded: UInt64) {
        let view = ByteView(copying: bytes(count))
        #expect(XXH64.digest(of: view) == plain)
        // Pieces, and memory at odd addresses.
        let odd = ByteView(copying: [1] + bytes(count)).slice(offset: 1, count: count)
        #expect(XXH64.digest(of: odd) == plain)
        for piece in [1, 3, 8, 31, 32, 33, 100, 4096] {
            #expect(hash(view, piece: piece) == plain)
            #expect(hash(odd, seed: Self.seed, piece: piece) == seeded)
        }
    }

    @Test func knownTexts() {
        #expect(hexadecimal(XXH64.digest(of: ByteView(copying: []))) == "ef46db3751d8e999")
        #expect(hexadecimal(XXH64.digest(of: ByteView(copying: Array("abc".utf8)))) == "44bc2cf5ad770999")
    }

    @Test func largeUnalignedInput() {
        let all = bytes(300_001)
        let aligned = ByteView(copying: all[1...])
        #expect(XXH64.digest(of: ByteView(copying: all).slice(offset: 1, count: 300_000)) == XXH64.digest(of: aligned))
    }

    @Test func hexadecimalDigitsAreStrict() {
        #expect(hexadecimal(0xAB) == "00000000000000ab")
        #expect(value(hexadecimal: "00000000000000ab") == 0xAB)
        #expect(value(hexadecimal: "ffffffffffffffff") == .max)
        for text in ["", "ab", "00000000000000AB", "+0000000000000ab", "0000000000000abg", "000000000000000ab"] {
            #expect(value(hexadecimal: text) == nil)
        }
    }
}
