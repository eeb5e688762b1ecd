import Testing

@testable import LatheCommand

@Suite struct ByteCountTests {
    @Test(arguments: [
        ("700MB", 700_000_000), ("668MiB", 700_448_768), ("0.7G", 700_000_000), ("700000000", 700_000_000),
        ("1.5 GiB", 1_610_612_736), ("4096", 4096), ("4k", 4000), ("1Ki", 1024), ("1B", 1), ("2tb", 2_000_000_000_000),
    ])
    func sizes(text: String, bytes: Int) {
        #expect(ByteCount(argument: text)?.bytes == bytes)
    }

    @Test(arguments: [
        "", " ", "MB", "-5MB", "0", "0.2B", "1.2.3MB", "7 00MB", "1e3MB", "12X", "MB12", "nan", "inf", "٧MB", "1e30",
        "99999999999G", "5 MB x", "0x10",
    ])
    func nonsense(text: String) {
        #expect(ByteCount(argument: text) == nil)
    }
}
